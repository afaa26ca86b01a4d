"""Two motion sets: what is equal, turned, unrelated or missing is told apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ifmdm_core.errors import BadInput, Conflict
from pipelines.dataset.dataset import Dataset
from pipelines.inspect.diff import Diff, diff_motion

Value = Callable[[dict[str, Any]], np.ndarray | None]


def walk(clip: str, frames: int) -> np.ndarray:
    """Full-rank motion of a clip, float32 [frames, 20]."""
    random = np.random.default_rng(int(clip[:8], 16))
    return random.uniform(-0.5, 0.5, (frames, 20)).astype(np.float32)


@pytest.fixture
def compare(
    make_dataset: Callable[..., Dataset], add_features: Callable[..., Dataset], tmp_path: Path
) -> Any:
    def run(value: Value) -> Diff:
        dataset = make_dataset(tmp_path / "set", features=())
        first = add_features(dataset, "motion", "a", lambda row: walk(row["clip_id"], row["num_frames"]))
        both = add_features(first, "motion", "b", value)
        return diff_motion(both, first.features("motion"), both.features("motion"), worst=3)

    return run


def test_a_set_and_itself(dataset: Dataset) -> None:
    motion = dataset.features("motion")
    found = diff_motion(dataset, motion, motion)
    assert max(found.rms) == 0
    assert found.cosine == pytest.approx(1)
    assert min(found.r2) == pytest.approx(1, abs=1e-4)
    assert (found.clips, found.frames) == (12, sum(e.frames for e in motion.shards.values()))


def test_other_axes_are_far_in_numbers_and_near_by_a_linear_map(compare: Any) -> None:
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((20, 20)))[0]
    found = compare(lambda row: walk(row["clip_id"], row["num_frames"]) @ turn + 0.1)
    assert min(found.rms) > 0.1
    assert min(found.r2) > 0.9999
    assert max(clip["mapped_rms"] for clip in found.worst) < 1e-3


def test_an_unrelated_set_cannot_be_mapped(compare: Any) -> None:
    found = compare(lambda row: walk(row["clip_id"][::-1], row["num_frames"]))
    assert max(found.r2) < 0.3
    assert abs(found.cosine) < 0.2


def test_the_worst_clip_is_named_and_holes_are_counted(compare: Any) -> None:
    odd: dict[str, str] = {}

    def value(row: dict[str, Any]) -> np.ndarray | None:
        motion = walk(row["clip_id"], row["num_frames"])
        if row["source"] == "ben/talk 01.mp4" and not odd:
            odd[row["clip_id"]] = row["source"]
            return motion[::-1].copy()
        return None if row["source"] == "anna/talk 03.mp4" else motion

    found = compare(value)
    assert found.worst[0]["clip_id"] in odd
    assert found.worst[0]["source"] == "ben/talk 01.mp4"
    assert found.worst[0]["mapped_rms"] > 2 * found.worst[1]["mapped_rms"]
    assert (found.only_first, found.only_second, found.clips) == (2, 0, 10)


def test_a_dimension_that_never_moves_does_no_harm(compare: Any) -> None:
    def value(row: dict[str, Any]) -> np.ndarray:
        motion = walk(row["clip_id"], row["num_frames"])
        motion[:, 3] = 0
        return motion

    found = compare(value)
    assert np.isfinite(found.r2).all()
    assert found.r2[3] < 0.3
    assert found.r2[4] > 0.999


def test_what_cannot_be_compared_is_refused(compare: Any, dataset: Dataset) -> None:
    with pytest.raises(Conflict, match="cannot be compared"):
        diff_motion(dataset, dataset.features("motion"), dataset.features("speech"))
    with pytest.raises(BadInput, match="no clip in common"):
        compare(lambda row: None)
