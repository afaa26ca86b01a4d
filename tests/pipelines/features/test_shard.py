"""Feature shards made without Ray, as a worker makes them: what is opened, written, kept and refused."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ifmdm_core.errors import Conflict
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import commit
from pipelines.dataset.shard_file import feature_values
from pipelines.features.shard import FeatureShardBuilder
from pipelines.inspect.verify import verify
from pipelines.run.commits import finished, list_features
from pipelines.run.features import FeaturesRun
from pipelines.run.settings import RunSettings


def encode(dataset: Dataset, **models: Path) -> tuple[Dataset, Counter[str]]:
    """What the driver does with its workers, in this process."""
    run = FeaturesRun(
        str(dataset.storage.root.path), RunSettings(), report=lambda line: None,
        **{kind: str(model) for kind, model in models.items()},
    )  # fmt: skip
    manifest = commit(dataset.storage, run._with_sets)
    counts: Counter[str] = Counter()
    if works := run.work(manifest):
        builder = FeatureShardBuilder(dataset.storage, run.generation_name, run.wanted, "cpu", 16)
        for work in works:
            for result in builder.build(work):
                counts.update(result.counts)
                group = f"{result.wanted.kind}/{result.wanted.digest}"
                one = finished(
                    dataset.storage, group, result.wanted.stage, result.name, result.entry, result.faults
                )
                commit(dataset.storage, lambda base, one=one: list_features(base, [one]))
    return dataset.refresh(), counts


@pytest.fixture(scope="module")
def bundles(make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [make_bundle(tmp_path_factory.mktemp("models") / f"m{seed}", seed) for seed in range(2)]


@pytest.fixture
def encoded(make_dataset, tmp_path: Path, bundles: list[Path]) -> Dataset:
    """Twelve clips with both kinds of features of the first bundle. Their sources are nowhere on this machine."""
    return encode(make_dataset(tmp_path / "set", features=()), speech=bundles[0], motion=bundles[0])[0]


def keys(dataset: Dataset) -> set[str]:
    return {item.key for item in dataset.storage.list() if not item.key.startswith("manifests/")}


def test_both_kinds_line_up_with_their_clips_from_one_opening_of_each_shard(
    make_dataset, tmp_path: Path, bundles: list[Path]
):
    dataset, counts = encode(
        make_dataset(tmp_path / "set", features=()), speech=bundles[0], motion=bundles[0]
    )
    assert counts["clips"] == 3
    assert counts["rows_made"] == 24
    report = verify(dataset)
    assert (report.damage, report.unfinished) == ([], [])
    speech, motion = dataset.features("speech"), dataset.features("motion")
    for shard in dataset.generation()[1].shards:
        with dataset.aligned(shard, speech, motion) as (clips, sounds, moves):
            for row, columns in enumerate(clips.to_pylist()):
                heard = feature_values(sounds.column("speech"), row, speech.dim)
                moved = feature_values(moves.column("motion"), row, motion.dim)
                assert (heard is None) == (columns["audio"] is None)
                assert heard is None or heard.shape == (columns["num_frames"], 16)
                assert moved is not None
                assert moved.shape == (columns["num_frames"], 20)


def test_a_second_encoder_opens_each_clip_shard_once_and_writes_only_its_own_set(
    encoded: Dataset, bundles: list[Path]
):
    before = keys(encoded)
    dataset, counts = encode(encoded, motion=bundles[1])
    assert counts["clips"] == 3
    assert counts["speech"] == counts["motion"] == 0
    new = keys(dataset) - before
    made = dataset.features("motion")
    assert made.digest != encoded.features("motion").digest
    assert {key.rpartition("/")[0] for key in new} == {made.name}
    assert before <= keys(dataset)


def test_what_is_there_is_not_made_again(encoded: Dataset, bundles: list[Path]):
    dataset, counts = encode(encoded, speech=bundles[0], motion=bundles[0])
    assert not counts
    assert dataset.manifest == encoded.manifest


def test_rows_that_are_there_are_copied(encoded: Dataset, bundles: list[Path]):
    """A clip shard that is looked at again costs its features nothing but the holes."""
    name, generation = encoded.generation()
    entry = generation.shards["00001"]
    shards = {**generation.shards, "00001": entry.model_copy(update={"inputs": "changed"})}
    commit(
        encoded.storage,
        lambda base: base.model_copy(
            update={"generations": {name: generation.model_copy(update={"shards": shards})}}
        ),
    )
    dataset, counts = encode(encoded.refresh(), motion=bundles[0])
    assert (counts["clips"], counts["motion"]) == (1, 1)
    assert (counts["rows_copied"], counts["rows_made"]) == (4, 0)
    old, new = encoded.features("motion"), dataset.features("motion")
    with (
        encoded.aligned("00001", old) as (_, before),
        dataset.aligned("00001", new) as (_, after),
    ):
        assert before.column("motion") == after.column("motion")
    assert {n for n in old.shards if old.shards[n] != new.shards[n]} == {"00001"}


def test_a_clip_alone_has_the_values_that_it_has_in_its_shard(encoded: Dataset, bundles: list[Path]):
    """So an increment, which encodes only new rows, gives the bytes of a fresh extraction."""
    from pipelines.features.encoders import load_encoder

    features = encoded.features("motion")
    encoder = load_encoder("motion", bundles[0])
    with encoded.aligned("00002", features) as (clips, table):
        for row in range(clips.num_rows):
            alone = encoder.encode_rows(clips, [row]).values[0]
            assert alone is not None
            assert np.array_equal(alone, feature_values(table.column("motion"), row, features.dim))


def test_a_clip_that_cannot_be_decoded_is_a_hole_with_its_reason(
    make_dataset, tmp_path: Path, bundles: list[Path]
):
    def broken(row: dict) -> dict:
        return {**row, "video": b"no video"} if row["source"].startswith("ben/talk 01") else row

    dataset = make_dataset(tmp_path / "set", features=(), change=broken)
    dataset, _ = encode(dataset, motion=bundles[0])
    features = dataset.features("motion")
    assert [features.shards[name].holes for name in sorted(features.shards)] == [2, 0, 0]
    from pipelines.dataset.quarantine import all_records

    records = all_records(dataset.storage, dataset.manifest)
    assert [(r.stage, r.shard, r.source, r.reason) for r in records] == [
        (f"motion-{features.digest}", "00000", "ben/talk 01.mp4", "video undecodable")
    ] * 2
    assert len({r.clip_id for r in records}) == 2


def test_another_model_on_the_worker_than_on_the_driver_is_refused(
    make_dataset, tmp_path: Path, bundles: list[Path]
):
    dataset = make_dataset(tmp_path / "set", features=())
    run = FeaturesRun(str(tmp_path / "set"), RunSettings(), motion=str(bundles[0]))
    swapped = [replace(one, reference=str(bundles[1])) for one in run.wanted]
    with pytest.raises(Conflict, match="on the submitting machine"):
        FeatureShardBuilder(dataset.storage, run.generation_name, swapped, "cpu", 16)
