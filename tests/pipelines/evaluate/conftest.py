"""Held-out clips that take seconds to judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from ifmdm_core.metrics.evaluate import Effort
from tests.talking_videos import write_talking_video

SMALL = Effort(
    {"clips": 3}, clip_s=1.2, sounds=2, seeds=2, sound_s=1.0, pairs=2, portraits=1, seams=2, silence_s=1.2
)


@pytest.fixture(scope="session")
def talking_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of 30 frames of a kind "people"; do not write to it."""
    folder = tmp_path_factory.mktemp("heldout")
    (folder / "people").mkdir()
    for seed in (1, 2):
        write_talking_video(folder / "people" / f"talk{seed}.mp4", seed, seconds=1.2)
    return folder
