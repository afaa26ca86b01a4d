"""Refusals in groups, and forgotten when they are to be looked at again."""

import pytest

from ifmdm_core.errors import NotFound
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import commit
from pipelines.dataset.quarantine import QuarantineRecord, write_records
from pipelines.maintain.quarantine import Wanted, grouped, listed, retry


@pytest.fixture
def refusing(dataset: Dataset) -> Dataset:
    generation, motion = dataset.generation()[0], dataset.features("motion").digest
    rows = [
        ("probe", "sources", "a/one.mp4", "damaged"),
        ("probe", "sources", "b/two.mp4", "damaged"),
        ("probe", "sources", "three.mp4", "no picture"),
        (f"clips-{generation}", "00000", "a/one.mp4", "no face"),
        (f"clips-{generation}", "00002", "a/four.mp4", "no face"),
        (f"motion-{motion}", "00001", "a/four.mp4", "features not finite"),
    ]
    refs = {}
    for stage, shard in {(stage, shard) for stage, shard, *_ in rows}:
        records = [
            QuarantineRecord(stage=stage, shard=shard, source=source, reason=reason)
            for s, h, source, reason in rows
            if (s, h) == (stage, shard)
        ]
        refs[f"{stage}/{shard}"] = write_records(dataset.storage, stage, shard, records)
    return Dataset(
        dataset.storage, commit(dataset.storage, lambda b: b.model_copy(update={"quarantine": refs}))
    )


@pytest.mark.parametrize(
    ("by", "first"), [("reason", ("damaged", 2, 2)), ("folder", ("a", 4, 2)), ("stage", ("probe", 3, 3))]
)
def test_groups_largest_first(refusing: Dataset, by, first):
    groups = grouped(listed(refusing), by)
    assert (groups[0].name, groups[0].count, groups[0].sources) == first
    assert sum(group.count for group in groups) == 6


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (Wanted(), 6),
        (Wanted(reason="no face"), 2),
        (Wanted(source="a"), 4),
        (Wanted(source="a/one.mp4"), 2),
        (Wanted(source="a/one.mp4", stage="clips"), 1),
        (Wanted(stage="motion"), 1),
        (Wanted(source="a/o"), 0),
    ],
)
def test_chosen(refusing: Dataset, wanted: Wanted, count: int):
    assert len(listed(refusing, wanted)) == count


def test_a_retry_marks_just_the_shards_concerned(refusing: Dataset):
    after, forgotten = retry(refusing, Wanted(reason="no face"))
    assert [record.source for record in forgotten] == ["a/one.mp4", "a/four.mp4"]
    plan, shards = after.plan(), after.generation()[1].shards
    assert {name for name, entry in shards.items() if entry.inputs != plan.keys()[name]} == {"00000", "00002"}
    assert len(listed(after)) == 4
    assert after.manifest.features == refusing.manifest.features


def test_features_are_tried_again_and_stay_readable(refusing: Dataset):
    after, forgotten = retry(refusing, Wanted(stage="motion"))
    old, new = refusing.features("motion"), after.features("motion")
    assert len(forgotten) == 1
    assert {name for name in old.shards if old.shards[name].inputs != new.shards[name].inputs} == {"00001"}
    with after.aligned("00001", new) as tables:
        assert tables[0].num_rows == tables[1].num_rows


def test_probed_sources_are_simply_forgotten(refusing: Dataset):
    after, _ = retry(refusing, Wanted(stage="probe", reason="damaged"))
    assert [record.reason for record in listed(after, Wanted(stage="probe"))] == ["no picture"]
    assert after.generation()[1] == refusing.generation()[1]


def test_dry_run_writes_nothing(refusing: Dataset):
    keys = [item.key for item in refusing.storage.list()]
    _, forgotten = retry(refusing, Wanted(), dry_run=True)
    assert len(forgotten) == 6
    assert [item.key for item in refusing.storage.list()] == keys


def test_nothing_to_retry(refusing: Dataset):
    with pytest.raises(NotFound, match="no such refusals"):
        retry(refusing, Wanted(reason="ugly"))
