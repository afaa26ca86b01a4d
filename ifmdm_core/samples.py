"""What comes with the package: a portrait and speech, and a small model."""

from __future__ import annotations

from pathlib import Path

SAMPLES = Path(__file__).parent / "assets" / "samples"
DEMO = Path(__file__).parent / "assets" / "demo"
"""The bundle that is called demo."""
