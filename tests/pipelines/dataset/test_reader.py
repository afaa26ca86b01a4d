"""Windows and pairs: aligned, each once an epoch, the same for the same seed, resumable, shared by ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifmdm_core.errors import Conflict, NotFound
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import Manifest, commit
from pipelines.dataset.order import Position
from pipelines.dataset.reader import MotionReader
from pipelines.dataset.selection import Selection
from pipelines.dataset.shard_file import feature_values
from pipelines.dataset.windows import Window, cut_windows

Key = tuple[str, int]


@pytest.fixture(scope="module")
def dataset(make_dataset: Callable[..., Dataset], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("reader") / "set", shards=5)


def keys(windows: Iterable[Window]) -> list[Key]:
    return [(window.clip_id, window.first_frame) for window in windows]


def stored(dataset: Dataset) -> dict[str, tuple[dict[str, Any], np.ndarray | None, np.ndarray | None]]:
    speech, motion = dataset.features("speech"), dataset.features("motion")
    found = {}
    for shard in dataset.generation()[1].shards:
        with dataset.aligned(shard, speech, motion) as (clips, words, moves):
            for k, row in enumerate(clips.select(["clip_id", "num_frames", "identity"]).to_pylist()):
                pair = (
                    feature_values(words["speech"], k, speech.dim),
                    feature_values(moves["motion"], k, motion.dim),
                )
                found[row["clip_id"]] = (row, *(None if v is None else v.copy() for v in pair))
    return found


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(-70, 70), st.integers(1, 70), st.integers(1, 70))
def test_windows_cover_every_frame_that_has_both_sides(
    frames: int, shift: int, length: int, stride: int
) -> None:
    stride = min(stride, length)
    windows = cut_windows(frames, shift, length, stride)
    both = {k for k in range(frames) if 0 <= k + shift < frames}
    assert {k for first, last in windows for k in range(first, last)} == both
    assert len(set(windows)) == len(windows)
    assert all(last - first == min(length, len(both)) for first, last in windows)


def test_a_window_holds_the_rows_of_its_frames(dataset: Dataset) -> None:
    rows = stored(dataset)
    windows = list(MotionReader(dataset).windows(12, seed=0, epoch=0))
    for window in windows:
        row, speech, motion = rows[window.clip_id]
        assert speech is not None
        assert motion is not None
        part = slice(window.first_frame, window.first_frame + 12)
        np.testing.assert_array_equal(window.speech, speech[part])
        np.testing.assert_array_equal(window.motion, motion[part])
        assert (window.motion.dtype, window.speech.dtype) == (np.float32, np.float16)
        assert window.identity == row["identity"]
    whole = {clip for clip, (_, speech, _) in rows.items() if speech is not None}
    assert {window.clip_id for window in windows} == whole != set(rows)  # holes are left out


def test_each_window_comes_once_an_epoch_in_an_order_of_its_own(dataset: Dataset) -> None:
    reader = MotionReader(dataset)
    first, again, next_epoch, other_seed = (
        keys(reader.windows(10, seed=seed, epoch=epoch)) for seed, epoch in [(0, 0), (0, 0), (0, 1), (1, 0)]
    )
    assert first == again
    assert sorted(first) == sorted(next_epoch) == sorted(other_seed)
    assert len({tuple(first), tuple(next_epoch), tuple(other_seed)}) == 3
    assert max(Counter(first).values()) == 1


@settings(max_examples=25, deadline=None)
@given(stop=st.integers(0, 60), world=st.integers(1, 4), buffer=st.integers(1, 6), epoch=st.integers(0, 3))
def test_ranks_share_an_epoch_and_each_goes_on_where_it_stopped(
    dataset: Dataset, stop: int, world: int, buffer: int, epoch: int
) -> None:
    whole = keys(MotionReader(dataset, buffer=buffer).windows(10, seed=5, epoch=epoch))
    every: list[Key] = []
    for rank in range(world):
        reader = MotionReader(dataset, buffer=buffer)
        part = list(islice(reader.windows(10, seed=5, epoch=epoch, rank=rank, world=world), stop))
        start = part[-1].after if part else Position()
        rest = reader.windows(10, seed=5, epoch=epoch, start=start, rank=rank, world=world)
        mine = keys([*part, *rest])
        assert mine == whole[rank::world]
        every += mine
    assert sorted(every) == sorted(whole)


def test_each_shard_is_opened_once_an_epoch_and_what_is_skipped_not_at_all(dataset: Dataset) -> None:
    reader = MotionReader(dataset, buffer=2)
    windows = list(reader.windows(10, seed=0, epoch=0))
    assert reader.opened == {"clips": 5, "speech": 5, "motion": 5}
    last_group = next(window.after for window in windows if window.after.group == 2)
    reader.opened.clear()
    rest = list(reader.windows(10, seed=0, epoch=0, start=last_group))
    assert reader.opened == {"clips": 1, "speech": 1, "motion": 1}
    assert keys(rest) == keys(windows[-len(rest) :])


@pytest.mark.parametrize("late", [0.08, -0.12])
def test_speech_is_moved_by_the_offset_of_the_folder(dataset: Dataset, late: float) -> None:
    selection = Selection(name="s", generation=dataset.generation()[0], offsets={"anna": late})
    rows = stored(dataset)
    shift = round(late * 25)
    moved = 0
    for window in MotionReader(dataset, selection=selection).windows(10, seed=0, epoch=0):
        row, speech, motion = rows[window.clip_id]
        assert speech is not None
        assert motion is not None
        by = shift if row["identity"] == "anna" else 0
        first = window.first_frame
        np.testing.assert_array_equal(window.speech, speech[first + by : first + by + 10])
        np.testing.assert_array_equal(window.motion, motion[first : first + 10])
        moved += by != 0
    assert moved


def test_a_selection_and_a_split_decide_what_comes(dataset: Dataset) -> None:
    name = dataset.generation()[0]
    rows = stored(dataset)
    banned = sorted(rows)[0]
    selection = Selection(
        name="s", generation=name, heldout_share=0.5, seed=1, duplicates={banned: sorted(rows)[1]}
    )
    seen: dict[str, set[str]] = {}
    for split in ("train", "heldout"):
        reader = MotionReader(dataset, selection=selection, split=split)
        seen[split] = {pair.clip_id for pair in reader.pairs(seed=0, epoch=0, size=16)}
    assert seen["train"].isdisjoint(seen["heldout"])
    assert seen["train"] | seen["heldout"] == set(rows) - {banned}
    assert list(MotionReader(dataset, split="train").windows(10, seed=0, epoch=0)) == []  # the list says none


def test_pairs_are_two_frames_of_one_clip(dataset: Dataset) -> None:
    reader = MotionReader(dataset)
    pairs = list(reader.pairs(seed=0, epoch=0, size=32))
    assert len(pairs) == 20
    assert reader.opened == {"clips": 5}
    for pair in pairs:
        assert pair.frames.shape == (2, 32, 32, 3)
        # The longer the bright bar at the top, the later the frame.
        bars = (pair.frames[:, 2].min(-1) > 210).sum(-1)
        assert (bars[0] < bars[1]) == (pair.rows[0] < pair.rows[1]) or abs(pair.rows[0] - pair.rows[1]) < 3
        corner = pair.frames[:, -4:, -4:].astype(int)
        assert np.abs(corner[0] - corner[1]).max() < 12  # the same clip's colour
    again = list(reader.pairs(seed=0, epoch=0, size=32, start=pairs[7].after))
    assert [p.rows for p in again] == [p.rows for p in pairs[8:]]
    np.testing.assert_array_equal(again[0].frames, pairs[8].frames)
    assert [p.rows for p in pairs] != [p.rows for p in reader.pairs(seed=0, epoch=1, size=32)]


def test_features_of_a_chosen_set_are_read(
    make_dataset: Callable[..., Dataset], add_features: Callable[..., Dataset], tmp_path: Path
) -> None:
    first = make_dataset(tmp_path / "set", shards=1)
    old = first.features("motion").digest
    both = add_features(first, "motion", "ones", lambda row: np.ones((row["num_frames"], 20), np.float32))
    newest = next(MotionReader(both).windows(5, seed=0, epoch=0))
    assert (newest.motion == 1).all()
    chosen = next(MotionReader(both, motion=old[:6]).windows(5, seed=0, epoch=0))
    assert not (chosen.motion == 1).any()


def test_a_handle_reads_its_own_manifest_while_the_dataset_grows(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    held = make_dataset(tmp_path / "set", shards=2)
    before = keys(MotionReader(held).windows(10, seed=0, epoch=0))
    make_dataset(tmp_path / "set", shards=3)
    assert keys(MotionReader(held).windows(10, seed=0, epoch=0)) == before


def test_what_does_not_fit_together_is_refused(dataset: Dataset) -> None:
    with pytest.raises(NotFound, match="no selection 'good'"):
        MotionReader(dataset, selection="good")
    with pytest.raises(NotFound, match="no motion features abc"):
        next(MotionReader(dataset, motion="abc").windows(5, seed=0, epoch=0))
    other = Selection(name="s", generation="ffffffff")
    with pytest.raises(Conflict, match="of generation ffffffff"):
        MotionReader(dataset, selection=other, generation=dataset.generation()[0])
    with pytest.raises(ValueError, match="rank 2 of 2"):
        next(MotionReader(dataset).windows(5, seed=0, epoch=0, rank=2, world=2))
    with pytest.raises(ValueError, match="stride 0 of windows of 0"):
        next(MotionReader(dataset).windows(0, seed=0, epoch=0))


def test_unfinished_features_are_not_read_as_if_they_were_all(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    whole = make_dataset(tmp_path / "set", shards=2)

    def change(manifest: Manifest) -> Manifest:
        motion = whole.features("motion")
        fewer = motion.model_copy(update={"shards": {"00000": motion.shards["00000"]}})
        return manifest.model_copy(update={"features": {**manifest.features, motion.name: fewer}})

    half = Dataset(whole.storage, commit(whole.storage, change))
    with pytest.raises(Conflict, match="lacks 1 of 2 shards, first 00001"):
        next(MotionReader(half).windows(5, seed=0, epoch=0))
