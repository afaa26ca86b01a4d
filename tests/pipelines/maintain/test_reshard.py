"""Another shard size moves rows and changes none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifmdm_core.errors import BadInput, Conflict
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import Manifest, commit
from pipelines.dataset.parameters import ClipParameters
from pipelines.dataset.plan import Plan, PlannedSource, extend
from pipelines.dataset.quarantine import QuarantineRecord, all_records, write_records
from pipelines.maintain.reshard import regrouped, reshard


@pytest.mark.parametrize("seconds", [10.0, 1000.0, 25.0])
def test_the_same_rows_in_other_shards(dataset: Dataset, seconds: float, contents):
    before = contents(dataset)
    after, report = reshard(dataset, seconds=seconds)
    assert contents(after) == before
    assert report.before == 3
    assert report.after == len(after.generation()[1].shards) == {10: 6, 1000: 1, 25: 3}[int(seconds)]
    generation = after.generation()[1]
    assert {n: e.inputs for n, e in generation.shards.items()} == after.plan().keys()


def test_there_and_back_again_is_the_same_dataset_byte_for_byte(dataset: Dataset):
    shard_s = dataset.plan().shard_s
    there, _ = reshard(dataset, seconds=10)
    back, _ = reshard(there, seconds=shard_s)
    assert back.manifest.content == dataset.manifest.content


def test_size_in_megabytes_is_about_met(dataset: Dataset):
    size = sum(entry.bytes for entry in dataset.generation()[1].shards.values())
    after, report = reshard(dataset, megabytes=size / 6 / 1e6 * 1.01)
    assert report.after == 6
    assert len(after.plan().shards) == 6


def test_dry_run_and_the_present_size_write_nothing(dataset: Dataset):
    keys = [item.key for item in dataset.storage.list()]
    assert reshard(dataset, seconds=10, dry_run=True)[1].after == 6
    assert reshard(dataset, seconds=dataset.plan().shard_s)[1].after == 3
    assert [item.key for item in dataset.storage.list()] == keys


def test_old_shards_stay_until_the_manifest_is_there(dataset: Dataset, contents):
    listed = dataset.manifest.files()
    after, _ = reshard(dataset, seconds=10)
    assert all(dataset.storage.info(key) for key in listed)
    assert contents(dataset) == contents(after)  # a reader of the old manifest goes on


def test_refusals_move_with_their_spans_and_clips(dataset: Dataset):
    plan = dataset.plan()
    generation, motion = dataset.generation()[0], dataset.features("motion")
    span = plan.shards[2].spans[1]
    with dataset.clips("00001") as table:
        row = table.slice(3, 1).to_pylist()[0]
    records = [
        QuarantineRecord(stage=f"clips-{generation}", shard="00002", source=span.source, reason="no face",
                         span=(span.start, span.end)),
        QuarantineRecord(stage=f"motion-{motion.digest}", shard="00001", source=row["source"], reason="broken",
                         clip_id=row["clip_id"]),
        QuarantineRecord(stage="probe", shard="sources", source="x.mp4", reason="empty"),
    ]  # fmt: skip
    refs = {f"{r.stage}/{r.shard}": write_records(dataset.storage, r.stage, r.shard, [r]) for r in records}
    listed = commit(dataset.storage, lambda base: base.model_copy(update={"quarantine": refs}))
    after, _ = reshard(Dataset(dataset.storage, listed), seconds=10)
    moved = {r.stage.partition("-")[0]: r for r in all_records(after.storage, after.manifest)}
    assert moved["clips"].shard == "00005"
    with after.clips(moved["motion"].shard) as table:
        assert row["clip_id"] in table.column("clip_id").to_pylist()
    assert moved["probe"] == records[2]
    assert len(after.manifest.quarantine) == 3


def test_an_unfinished_shard_is_refused_by_name(dataset: Dataset):
    name, generation = dataset.generation()

    def without(base: Manifest) -> Manifest:
        shards = {n: e for n, e in generation.shards.items() if n != "00001"}
        return base.model_copy(
            update={"generations": {name: generation.model_copy(update={"shards": shards})}}
        )

    dataset = Dataset(dataset.storage, commit(dataset.storage, without))
    with pytest.raises(Conflict, match=r"00001.*not finished"):
        reshard(dataset, seconds=10)


def test_a_set_that_lacks_a_shard_keeps_the_others(dataset: Dataset):
    motion = dataset.features("motion")
    part = motion.model_copy(update={"shards": {n: e for n, e in motion.shards.items() if n != "00001"}})
    listed = commit(
        dataset.storage,
        lambda base: base.model_copy(update={"features": {**base.features, motion.name: part}}),
    )
    after, _ = reshard(Dataset(dataset.storage, listed), seconds=10)
    assert sorted(after.features("motion").shards) == ["00000", "00001", "00004", "00005"]
    assert len(after.features("speech").shards) == 6


def test_a_change_by_somebody_else_meanwhile_is_not_lost(dataset: Dataset, add_features):
    other = add_features(dataset.refresh(), "motion", "second")
    after, _ = reshard(dataset, seconds=10)  # `dataset` does not know of the second set
    assert len(after.manifest.features) == 3
    newest = after.features("motion", generation=None)
    assert newest.encoder == "second"
    assert len(newest.shards) == 6
    assert other.manifest.number < after.manifest.number


@pytest.mark.parametrize("sizes", [{}, {"seconds": 1, "megabytes": 1}, {"seconds": 0}, {"megabytes": -1}])
def test_one_positive_size(dataset: Dataset, sizes: dict):
    with pytest.raises(BadInput, match="one size"):
        reshard(dataset, **sizes)


@settings(max_examples=40)
@given(st.lists(st.floats(0.5, 200), min_size=1, max_size=12), st.floats(5, 300), st.floats(1, 300))
def test_regrouping_keeps_every_span_once_in_order(durations, first, second):
    sources = [
        PlannedSource(source=f"{k}", file=f"{k}", uri="", sha256=f"{k:064d}", size=1, stamp="", duration=d)
        for k, d in enumerate(durations)
    ]
    plan = extend(Plan(parameters=ClipParameters(), shard_s=first), sources)
    new = regrouped(plan, second)
    assert [s for shard in new.shards for s in shard.spans] == [
        s for shard in plan.shards for s in shard.spans
    ]
    for shard in new.shards:
        assert shard.spans
        assert shard.seconds <= second + 1e-6 or len(shard.spans) == 1
    assert regrouped(new, second) == new
