"""The portrait and the speech that come with the package."""

from __future__ import annotations

from pathlib import Path

SAMPLES = Path(__file__).parent / "assets" / "samples"
