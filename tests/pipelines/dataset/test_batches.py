"""Steps of a training from a dataset: every item once an epoch, shared by ranks, resumed anywhere on any world."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifmdm_core.errors import BadInput, Conflict, NotFound, Unsupported
from ifmdm_core.storage import S3Config
from ifmdm_core.training.task import Share
from ifmdm_core.training.world import World
from pipelines.dataset.batch_items import Features, ItemKind, Pairs, Spoken
from pipelines.dataset.batches import StepBatches, sample_items
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.motion_frames import MotionFrames
from pipelines.dataset.parameters import ClipParameters
from pipelines.dataset.reader import MotionReader
from pipelines.dataset.selection import Selection
from pipelines.dataset.shard_file import feature_values

LIPS = np.random.default_rng(0).standard_normal((3, 20)).astype(np.float32)


@pytest.fixture(scope="module")
def dataset(make_dataset: Callable[..., Dataset], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("batches") / "set", shards=5)


def source(dataset: Dataset, size: int, kind: ItemKind | None = None, **options: object) -> StepBatches:
    reader = MotionReader(dataset, **options)
    return StepBatches(reader, kind or Features(), size, seed=3)


def take(
    batches: StepBatches, count: int, world: World | None = None, after: Share | None = None
) -> list[Share]:
    start, cursor = (after.step + 1, after.cursor) if after else (0, None)
    return list(islice(batches.shares(start, cursor, world or World()), count))


def names(shares: list[Share]) -> list[str]:
    return [item.clip_id for share in shares for _, item in share.items]


def with_features(dataset: Dataset) -> dict[str, tuple[np.ndarray, np.ndarray, str]]:
    speech, motion = dataset.features("speech"), dataset.features("motion")
    found = {}
    for shard in dataset.generation()[1].shards:
        with dataset.aligned(shard, speech, motion) as (clips, words, moves):
            for k, row in enumerate(clips.select(["clip_id", "identity"]).to_pylist()):
                heard = feature_values(words["speech"], k, speech.dim)
                seen = feature_values(moves["motion"], k, motion.dim)
                if heard is not None and seen is not None:
                    found[row["clip_id"]] = (seen.copy(), heard.copy(), row["identity"])
    return found


def test_every_item_comes_once_an_epoch_and_each_epoch_has_its_order(dataset: Dataset) -> None:
    stored = with_features(dataset)
    count = len(stored)
    assert 10 < count < 20  # clips without sound are left out
    shares = take(source(dataset, 4), count)  # four epochs
    assert [share.step for share in shares] == list(range(count))
    assert all([number for number, _ in share.items] == [0, 1, 2, 3] for share in shares)
    assert all(share.clip_ids == [item.clip_id for _, item in share.items] for share in shares)
    sequence = names(shares)
    epochs = [sequence[k : k + count] for k in range(0, len(sequence), count)]
    assert all(sorted(epoch) == sorted(stored) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert names(take(source(dataset, 4), count)) == sequence
    other = StepBatches(MotionReader(dataset), Features(), 4, seed=4)
    assert names(take(other, count)) != sequence


def test_an_item_holds_its_clip(dataset: Dataset) -> None:
    stored = with_features(dataset)
    for _, item in take(source(dataset, len(stored)), 1)[0].items:
        motion, speech, identity = stored[item.clip_id]
        np.testing.assert_array_equal(item.motion, motion)
        np.testing.assert_array_equal(item.speech, speech)
        assert (item.motion.dtype, item.speech.dtype) == (np.float32, np.float16)
        assert item.identity == identity


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(1, 9),
    stop=st.integers(1, 14),
    before=st.integers(1, 4),
    after=st.integers(1, 4),
    buffer=st.integers(1, 6),
)
def test_any_world_goes_on_where_any_other_stopped(
    dataset: Dataset, size: int, stop: int, before: int, after: int, buffer: int
) -> None:
    before, after = min(before, size), min(after, size)
    whole = take(source(dataset, size, buffer=buffer), stop + 6)
    cursors = set()
    for rank in range(before):
        shares = take(source(dataset, size, buffer=buffer), stop, World(rank, before))
        for share, full in zip(shares, whole, strict=False):
            assert [(n, i.clip_id) for n, i in share.items] == [
                (n, i.clip_id) for n, i in full.items[rank::before]
            ]
            assert share.cursor == full.cursor
        cursors.add(tuple(sorted(shares[-1].cursor.items())))
        last = shares[-1]
    assert len(cursors) == 1, "ranks disagree about where they are"
    assert all(type(value) is int for value in last.cursor.values())
    for rank in range(after):
        rest = take(source(dataset, size, buffer=buffer), 6, World(rank, after), last)
        assert [share.step for share in rest] == [share.step for share in whole[stop:]]
        for share, full in zip(rest, whole[stop:], strict=True):
            assert share.clip_ids == full.clip_ids[rank::after]
            assert share.cursor == full.cursor


def test_ranks_read_only_their_own(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    import pipelines.dataset.batch_items as items

    read: Counter[str] = Counter()
    original = items.read_pair

    def counted(video: bytes, rows: tuple[int, int], size: int, clip_id: str) -> np.ndarray:
        read[clip_id] += 1
        return original(video, rows, size, clip_id)

    monkeypatch.setattr(items, "read_pair", counted)
    batches = StepBatches(MotionReader(dataset), Pairs(16), 4, seed=0)
    shares = take(batches, 5, World(1, 4))
    assert len(names(shares)) == 5
    assert sum(read.values()) <= 5 + 3  # some more are decoded ahead


def test_pairs_are_drawn_anew_by_step_and_number_whatever_the_world(dataset: Dataset) -> None:
    alone = take(source(dataset, 4, Pairs(32)), 10)
    again = take(source(dataset, 4, Pairs(32)), 10)
    second = take(source(dataset, 4, Pairs(32)), 10, World(1, 2))
    for one, other, shared in zip(alone, again, second, strict=True):
        for (_, a), (_, b) in zip(one.items, other.items, strict=True):
            np.testing.assert_array_equal(a.frames, b.frames)
        for (number, a), (n, b) in zip(one.items[1::2], shared.items, strict=True):
            assert number == n
            np.testing.assert_array_equal(a.frames, b.frames)
    by_clip: dict[str, list[np.ndarray]] = {}
    for share in alone:
        for _, item in share.items:
            assert item.frames.shape == (2, 32, 32, 3)
            assert (item.frames[0] != item.frames[1]).any()
            by_clip.setdefault(item.clip_id, []).append(item.frames)
    assert min(map(len, by_clip.values())) == 2
    resumed = take(source(dataset, 4, Pairs(32)), 2, after=alone[6])
    np.testing.assert_array_equal(resumed[0].items[2][1].frames, alone[7].items[2][1].frames)


def test_each_epoch_draws_other_pairs(dataset: Dataset) -> None:
    by_clip: dict[str, list[np.ndarray]] = {}
    for share in take(source(dataset, 1, Pairs(16)), 40):
        by_clip.setdefault(share.items[0][1].clip_id, []).append(share.items[0][1].frames)
    assert sum(bool((first != second).any()) for first, second in by_clip.values()) >= 15


@pytest.mark.parametrize("late", [0.0, 0.1, -0.06])
def test_spoken_clips_have_the_sound_of_their_frames(dataset: Dataset, late: float) -> None:
    from ifmdm_core.media.clip_codec import decode_sound

    stored = with_features(dataset)
    sounds = {}
    for shard in dataset.generation()[1].shards:
        with dataset.clips(shard) as table:
            for row in table.select(["clip_id", "audio", "num_frames"]).to_pylist():
                if row["audio"] is not None:
                    sounds[row["clip_id"]] = decode_sound(row["audio"])
    people = {"anna": late, "ben": late, "chioma": late}
    selection = Selection(name="s", generation=dataset.generation()[0], offsets=people if late else {})
    items = take(source(dataset, len(sounds), Spoken(LIPS), selection=selection), 1)[0].items
    assert {item.clip_id for _, item in items} == set(sounds) == set(stored)
    shift = round(late * 16000)
    for _, item in items:
        motion, sound = stored[item.clip_id][0], sounds[item.clip_id]
        lost = -(-abs(shift) // 640)
        first = lost if shift < 0 else 0
        assert len(item.lips) == len(motion) - lost
        assert len(item.samples) == 640 * len(item.lips)
        np.testing.assert_allclose(item.lips, motion[first : first + len(item.lips)] @ LIPS.T, rtol=1e-5)
        start = first * 640 + shift
        np.testing.assert_array_equal(item.samples, sound[start : start + len(item.samples)])


def test_long_clips_come_in_parts_and_short_ones_not_at_all(dataset: Dataset) -> None:
    stored = with_features(dataset)
    batches = StepBatches(MotionReader(dataset), Features(longest=20, shortest=16), 1, seed=0)
    frames: Counter[str] = Counter()
    for share in take(batches, 2 * len(stored)):
        item = share.items[0][1]
        assert len(item.motion) == 20
        frames[item.clip_id] += 1
    assert set(frames.values()) == {2}
    none = StepBatches(MotionReader(dataset), Features(shortest=60), 2, seed=0)
    with pytest.raises(NotFound, match="nothing to train on: no clip has all that is needed"):
        take(none, 1)


def test_a_bucket_gives_the_same_and_only_fetches_what_it_needs(
    dataset: Dataset, make_dataset: Callable[..., Dataset], s3_config: S3Config, tmp_path: Path
) -> None:
    remote = make_dataset("s3://renders/batches/set", s3_config, shards=5)
    reader = MotionReader(remote, buffer=2, scratch=tmp_path)
    here = take(source(dataset, 3, buffer=2), 8)
    there = take(StepBatches(reader, Features(), 3, seed=3), 8)
    assert names(there) == names(here)
    assert [share.cursor for share in there] == [share.cursor for share in here]
    assert not list(tmp_path.iterdir()), "shards are left behind"


def test_the_split_and_the_selection_decide(dataset: Dataset) -> None:
    stored = with_features(dataset)
    selection = Selection(name="s", generation=dataset.generation()[0], heldout_share=0.5, seed=2)
    seen = {
        split: set(names(take(source(dataset, 2, selection=selection, split=split), 12)))
        for split in ("train", "heldout")
    }
    assert seen["train"].isdisjoint(seen["heldout"])
    assert seen["train"] | seen["heldout"] == set(stored)
    with pytest.raises(NotFound, match="no clip of split 'train' has all that is needed"):
        take(source(dataset, 2, split="train"), 1)


def test_a_sample_is_the_same_each_time_and_comes_from_all_over(dataset: Dataset) -> None:
    reader = MotionReader(dataset, buffer=1)
    chosen = sample_items(reader, Features(), 8, seed=1)
    assert [c.clip_id for c in chosen] == [c.clip_id for c in sample_items(reader, Features(), 8, seed=1)]
    assert len({c.clip_id for c in chosen}) == 8
    assert {c.clip_id for c in sample_items(reader, Features(), 99)} == set(with_features(dataset))
    stored = with_features(dataset)
    for motion, frames in sample_items(reader, MotionFrames(size=32, most=5), 3):
        assert frames.shape == (5, 32, 32, 3)
        assert any(np.isin(motion, whole).all() for whole, _, _ in stored.values()) or len(motion) == 5


def test_what_cannot_be_read_is_refused(
    dataset: Dataset, make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="a step of 2 samples cannot be shared by 3 processes"):
        take(source(dataset, 2), 1, World(0, 3))
    with pytest.raises(NotFound, match="no speech features"):
        source(make_dataset(tmp_path / "silent", shards=1, features=("motion",)), 2)
    with pytest.raises(Conflict, match="has 20 numbers a frame, the lip map reads 12"):
        source(dataset, 2, Spoken(np.zeros((3, 12), np.float32)))
    fast = make_dataset(tmp_path / "fast", shards=1, parameters=ClipParameters(fps=30))
    with pytest.raises(Unsupported, match="have 30 frames a second"):
        source(fast, 2, Spoken(LIPS))
