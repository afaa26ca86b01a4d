"""Only what nothing needs is deleted, and nothing that a manifest lists."""

import json
import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ifmdm_core.bundle import DEMO
from ifmdm_core.errors import BadInput, NotFound
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import commit
from pipelines.dataset.parameters import ClipParameters
from pipelines.maintain.prune import prune
from pipelines.maintain.remove import remove
from pipelines.maintain.reshard import reshard

OLD = 10 * 3600


def age(dataset: Dataset, seconds: float = OLD, only: str = "") -> None:
    """Make files look written long ago."""
    root = dataset.storage.local_path("manifests").parent
    then = time.time() - seconds
    for path in root.rglob("*"):
        if path.is_file() and only in str(path):
            os.utime(path, (then, then))


def keys(dataset: Dataset) -> set[str]:
    return {item.key for item in dataset.storage.list() if not item.key.startswith("manifests/")}


def test_the_older_set_of_a_kind_goes_and_the_newest_of_each_kind_stays(
    dataset: Dataset, add_features, contents
):
    old = dataset.features("motion")
    dataset = add_features(dataset, "motion", "second")
    before = contents(dataset)
    report = prune(dataset)
    after = dataset.refresh()
    assert list(report.sets) == [old.name]
    assert report.bytes == sum(report.files.values()) == sum(e.bytes for e in old.shards.values())
    assert old.name not in after.manifest.features
    assert contents(after) == before
    assert keys(after) == set(after.manifest.files())


@pytest.mark.parametrize("how", ["keep", "trained on", "encoder"])
def test_a_set_that_is_named_stays(dataset: Dataset, add_features, tmp_path, how: str):
    old = dataset.features("motion")
    dataset = add_features(dataset, "motion", "second")
    record = json.loads((DEMO / "bundle.json").read_text())
    (tmp_path / "models" / "x").mkdir(parents=True)
    lineage = {"trained on": old.digest, "encoder": "none"}.get(how, "")
    record = {**record, "lineage": {"features": lineage}, "encoder": old.encoder if how == "encoder" else "x"}
    (tmp_path / "models" / "x" / "bundle.json").write_text(json.dumps(record))
    keep = [old.digest[:6]] if how == "keep" else []
    report = prune(dataset, keep=keep, bundles=tmp_path / "models")
    assert not report.sets
    assert not report.files


def test_dry_run_lists_just_what_a_run_deletes(dataset: Dataset, add_features):
    dataset = add_features(dataset, "motion", "second")
    dataset, _ = reshard(dataset, seconds=10)
    age(dataset)
    before = sorted((item.key, item.size) for item in dataset.storage.list())
    said = prune(dataset, dry_run=True)
    assert sorted((item.key, item.size) for item in dataset.storage.list()) == before
    done = prune(dataset)
    assert said.files == done.files
    assert said.bytes == done.bytes > 0
    assert {key for key, _ in before} - {i.key for i in dataset.storage.list()} == set(done.files)


def test_what_was_listed_a_moment_ago_waits(dataset: Dataset):
    old = set(dataset.manifest.files())
    age(dataset)  # the files are old, but their manifest was the latest until the next line
    after, _ = reshard(dataset, seconds=10)
    report = prune(after)
    assert not report.files
    assert report.waiting == len(old)
    assert old <= keys(after)
    report = prune(after, grace_s=0)
    assert set(report.files) == old
    assert keys(after) == set(after.manifest.files())


def test_an_upload_that_is_not_listed_yet_waits(dataset: Dataset):
    age(dataset)
    dataset.storage.put("clips/x/00009-deadbeef.arrow", b"new")
    dataset.storage.put("clips/x/00008-deadbeef.arrow", b"left by a killed run")
    age(dataset, only="00008")
    report = prune(dataset)
    assert list(report.files) == ["clips/x/00008-deadbeef.arrow"]
    assert report.waiting == 1


def test_half_written_files_of_a_killed_process(dataset: Dataset):
    root = dataset.storage.local_path("manifests").parent
    stale, young = root / "clips" / ".ifmdm-tmp-old", root / "clips" / ".ifmdm-tmp-young"
    stale.write_bytes(b"half")
    young.write_bytes(b"half")
    age(dataset, only="-old")
    assert list(prune(dataset).files) == ["clips/.ifmdm-tmp-old"]
    assert young.exists()
    assert not stale.exists()


def test_a_removed_source_is_nowhere_on_disk_afterwards(dataset: Dataset):
    with dataset.clips("00001") as table:
        video = table.column("video")[0].as_py()
        source = table.column("source")[0].as_py()
    after, _ = remove(dataset, [source], "asked to")
    root = after.storage.local_path("manifests").parent
    assert any(video in path.read_bytes() for path in root.rglob("*.arrow"))
    prune(after, grace_s=0, keep_manifests=1)
    assert not any(video in path.read_bytes() for path in root.rglob("*.arrow"))
    held = [path for path in root.rglob("*") if path.is_file() and source.encode() in path.read_bytes()]
    assert [path.parent.name for path in held] == ["manifests"]  # the removal itself


def test_old_manifests_go_last_and_the_newest_stay(dataset: Dataset):
    for k in range(25):
        commit(dataset.storage, lambda base, k=k: base.model_copy(update={"arrivals": {"x": k}}))
    assert prune(dataset.refresh()).manifests == 0  # all young
    age(dataset)
    report = prune(dataset.refresh())
    left = [item.key for item in dataset.storage.list("manifests/")]
    assert report.manifests == 28 - 20
    assert left[-1] == "manifests/00000027.json"
    assert len(left) == 20


def test_an_old_generation_only_when_named_and_never_the_current(make_dataset, tmp_path):
    old = make_dataset(tmp_path / "set").manifest.current
    dataset = make_dataset(tmp_path / "set", parameters=ClipParameters(size=256))
    assert not prune(dataset).generations
    with pytest.raises(BadInput, match="current"):
        prune(dataset, generations=[dataset.manifest.current])
    with pytest.raises(NotFound, match="no generation"):
        prune(dataset, generations=["zzz"])
    report = prune(dataset, generations=[old[:5]])
    after = dataset.refresh()
    assert list(report.generations) == [old]
    assert len(report.sets) == 2
    assert keys(after) == set(after.manifest.files())
    assert list(after.manifest.generations) == [dataset.manifest.current]


def test_feature_shards_without_a_clip_shard_are_taken_out(dataset: Dataset):
    motion = dataset.features("motion")
    more = motion.model_copy(update={"shards": {**motion.shards, "00077": motion.shards["00000"]}})
    commit(
        dataset.storage,
        lambda base: base.model_copy(update={"features": {**base.features, more.name: more}}),
    )
    prune(dataset.refresh())
    assert sorted(dataset.refresh().features("motion").shards) == sorted(motion.shards)


def test_refusals(dataset: Dataset):
    with pytest.raises(NotFound, match="to keep"):
        prune(dataset, keep=["0000000"])
    with pytest.raises(NotFound, match="no folder"):
        prune(dataset, bundles="nowhere")
    with pytest.raises(BadInput, match="at least"):
        prune(dataset, keep_manifests=0)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["reshard 10", "reshard 40", "prune", "prune now", "age"]), max_size=6))
def test_whatever_is_done_every_listed_file_is_there(make_dataset, tmp_path_factory, steps):
    dataset = make_dataset(tmp_path_factory.mktemp("d") / "set", shards=2, clips=4, frames=4, size=32)
    for step in steps:
        dataset = dataset.refresh()
        if step == "age":
            age(dataset)
        elif step.startswith("prune"):
            prune(dataset, grace_s=0 if "now" in step else 3600, keep_manifests=2)
        else:
            reshard(dataset, seconds=float(step.split()[1]))
        assert set(dataset.refresh().manifest.files()) <= keys(dataset)
