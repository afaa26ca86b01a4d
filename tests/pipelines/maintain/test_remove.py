"""A removed source is nowhere, its neighbours are untouched, and what saw it is named."""

import json
import shutil

import pytest

from ifmdm_core.bundle import DEMO
from ifmdm_core.errors import BadInput, NotFound
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import Manifest, commit, replaced
from pipelines.dataset.plan import store_plan
from pipelines.dataset.quarantine import QuarantineRecord, all_records, write_records
from pipelines.maintain.bundles import find_bundles
from pipelines.maintain.remove import remove

GONE = "chioma/talk 02.mp4"


def bundle(folder, name: str, **lineage: str) -> None:
    folder.mkdir(parents=True)
    record = json.loads((DEMO / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**record, "name": name, "lineage": lineage}))


def test_the_source_is_gone_and_all_other_rows_are_the_same(dataset: Dataset, contents):
    before = contents(dataset)
    after, report = remove(dataset, [GONE], "asked to")
    held = {name for name, (row, *_) in before.items() if row["source"] == GONE}
    assert contents(after) == {name: rows for name, rows in before.items() if name not in held}
    assert report.clips == len(held) == 2
    assert report.frames == sum(before[name][0]["num_frames"] for name in held)
    assert list(report.sources) == [GONE]
    assert GONE not in after.plan().sources
    assert GONE not in after.manifest.model_dump_json(exclude={"removals"})
    assert {n: e.inputs for n, e in after.generation()[1].shards.items()} == after.plan().keys()


def test_only_its_own_shard_is_written(dataset: Dataset):
    after, report = remove(dataset, [GONE], "asked to")
    old, new = dataset.manifest.files(), after.manifest.files()
    assert [name.partition("/")[2] for name in report.shards] == ["00001"]
    assert (
        sorted(key.rpartition("/")[2][:5] for key in set(new) - set(old) if "plan" not in key)
        == ["00001"] * 3
    )
    assert all(dataset.storage.info(key) for key in old)


def test_a_shard_that_held_nothing_else_is_gone(dataset: Dataset):
    after, report = remove(dataset, [GONE, "anna/talk 03.mp4"], "asked to")
    assert sorted(after.generation()[1].shards) == ["00000", "00002"]
    assert all(sorted(s.shards) == ["00000", "00002"] for s in after.manifest.features.values())
    assert report.clips == 4


def test_the_record_says_why_and_who_saw_it(dataset: Dataset):
    after, report = remove(dataset, [f"/videos/{GONE}"], "consent withdrawn")
    (record,) = after.manifest.removals
    assert (record.source, record.why, record.manifest) == (
        GONE,
        "consent withdrawn",
        dataset.manifest.number,
    )
    assert record.sha256 == dataset.plan().sources[GONE].sha256
    assert set(record.seen_by) == set(report.features) == set(dataset.manifest.features)


def test_a_copy_under_another_name_goes_too(dataset: Dataset):
    plan = dataset.plan()
    twin = plan.sources["ben/talk 01.mp4"].model_copy(update={"sha256": plan.sources[GONE].sha256})
    ref = store_plan(
        dataset.storage, plan.model_copy(update={"sources": {**plan.sources, twin.source: twin}})
    )
    name, generation = dataset.generation()
    changed = commit(
        dataset.storage,
        lambda base: base.model_copy(
            update={"generations": {name: generation.model_copy(update={"plan": ref})}}
        ),
    )
    _, report = remove(Dataset(dataset.storage, changed), [GONE], "asked to", dry_run=True)
    assert set(report.sources) == {GONE, "ben/talk 01.mp4"}


def test_refusals_of_it_are_gone_and_others_stay(dataset: Dataset):
    plan, generation = dataset.plan(), dataset.generation()[0]
    records = []
    for span in plan.shards[1].spans:
        records.append(
            QuarantineRecord(stage=f"clips-{generation}", shard="00001", source=span.source, reason="no face",
                             span=(span.start, span.end))
        )  # fmt: skip
    ref = write_records(dataset.storage, records[0].stage, "00001", records)
    listed = commit(
        dataset.storage,
        lambda base: base.model_copy(
            update={"quarantine": replaced(base.quarantine, {f"{records[0].stage}/00001": ref})}
        ),
    )
    after, _ = remove(Dataset(dataset.storage, listed), [GONE], "asked to")
    assert [r.source for r in all_records(after.storage, after.manifest)] == ["anna/talk 03.mp4"]


def test_every_generation_loses_it(make_dataset, tmp_path, contents):
    from pipelines.dataset.parameters import ClipParameters

    make_dataset(tmp_path / "set")
    dataset = make_dataset(tmp_path / "set", parameters=ClipParameters(size=256), features=())
    assert len(dataset.manifest.generations) == 2
    after, report = remove(dataset, [GONE], "asked to")
    assert report.clips == 4
    for name in after.manifest.generations:
        assert GONE not in after.plan(name).sources
    assert len(after.manifest.removals) == 1


def test_bundles_whose_lineage_names_the_features_or_the_dataset(dataset: Dataset, tmp_path):
    motion = dataset.features("motion")
    models = tmp_path / "models"
    bundle(models / "a", "one", motion_features=motion.digest)
    bundle(models / "b" / "c", "two", dataset=f"s3://data/set content {dataset.manifest.content}")
    bundle(models / "d", "other", motion_features="0" * 16, encoder=motion.encoder)
    (models / "broken").mkdir()
    (models / "broken" / "bundle.json").write_text("{")
    after, report = remove(dataset, [GONE], "asked to", bundles=models)
    assert report.bundles == ["bundle one (a)", "bundle two (c)"]
    assert set(report.bundles) <= set(after.manifest.removals[0].seen_by)


def test_a_bundle_needs_the_sets_of_its_encoders(tmp_path, dataset: Dataset):
    from pipelines.features.encoders import motion_identity, speech_identity

    shutil.copytree(DEMO, tmp_path / "models" / "demo")
    (found,) = find_bundles(tmp_path / "models")
    motion = dataset.features("motion")
    assert not found.needs(motion)
    assert found.needs(motion.model_copy(update={"encoder": motion_identity("demo").encoder}))
    assert found.needs(
        motion.model_copy(update={"kind": "speech", "encoder": speech_identity("demo").encoder})
    )


def test_dry_run_writes_nothing(dataset: Dataset):
    keys = [item.key for item in dataset.storage.list()]
    after, report = remove(dataset, [GONE], "asked to", dry_run=True)
    assert [item.key for item in dataset.storage.list()] == keys
    assert after.manifest == dataset.manifest
    assert report.clips == 2
    assert report.bytes > 0


def test_an_unfinished_shard_stays_unfinished_and_loses_the_source_too(dataset: Dataset):
    name, generation = dataset.generation()
    shards = dict(generation.shards)
    shards["00001"] = shards["00001"].model_copy(update={"inputs": "retry"})
    shards.pop("00002")

    def unfinished(base: Manifest) -> Manifest:
        return base.model_copy(
            update={"generations": {name: generation.model_copy(update={"shards": shards})}}
        )

    dataset = Dataset(dataset.storage, commit(dataset.storage, unfinished))
    after, report = remove(dataset, [GONE, "ben/talk 04.mp4"], "asked to")
    assert report.unfinished == [f"{name}/00002"]
    assert sorted(after.generation()[1].shards) == ["00000", "00001"]
    entry = after.generation()[1].shards["00001"]
    assert entry.rows == 2
    assert entry.inputs not in ("retry", after.plan().keys()["00001"])


@pytest.mark.parametrize(
    ("source", "why", "error"), [("chioma/talk 2.mp4", "x", NotFound), (GONE, " ", BadInput)]
)
def test_refused_by_name(dataset: Dataset, source: str, why: str, error: type):
    with pytest.raises(error) as raised:
        remove(dataset, [source], why)
    assert error is BadInput or "did you mean 'chioma/talk 02.mp4'" in str(raised.value)
