"""Whole runs of `data clips` on a real Ray: every kind of bad file, and a store that fails now and then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ifmdm_core.storage import S3Config, open_storage
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.parameters import ClipParameters
from pipelines.dataset.quarantine import all_records
from pipelines.run.clips import ClipsRun
from pipelines.run.progress import Progress
from pipelines.run.settings import RunSettings
from tests.fault_proxy import Answer, Cut, FaultProxy
from tests.pipelines.poisoned import DUPLICATE, GOOD, IGNORED, KEPT, NEAR_DUPLICATE, make_poisoned_set
from tests.talking_videos import write_talking_video

Extract = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("poisoned") / "videos"
    return folder, make_poisoned_set(folder)


@pytest.fixture(scope="module")
def extract(s3_endpoint: str) -> Iterator[Extract]:
    """`extract(source, dataset, s3=None, **settings)` runs the command's own driver; the summary."""
    from pipelines.run.cluster import connect
    from pipelines.run.pool import Pool
    from pipelines.run.workers import ClipWorker, start

    with connect(cpus=2):

        def run(source: str, dataset: str, s3: S3Config | None = None, **options: Any) -> dict[str, Any]:
            settings = RunSettings(workers=1, **options)
            parameters = ClipParameters(size=128)
            with Progress("clips", quiet=True) as progress:
                return ClipsRun(source, dataset, parameters, settings, s3).run(
                    lambda: Pool(
                        lambda: start(ClipWorker, settings, dataset, parameters, s3),
                        1,
                        on_retry=progress.retry,
                    ),
                    progress,
                )

        yield run


def clips_of(dataset: Dataset) -> Counter[str]:
    """Clips by source."""
    counts: Counter[str] = Counter()
    for shard in dataset.generation()[1].shards:
        with dataset.clips(shard) as table:
            counts.update(table["source"].to_pylist())
    return counts


def test_each_bad_source_is_handled_or_quarantined_and_every_good_one_kept(
    poisoned: tuple[Path, dict[str, str]], extract: Extract, tmp_path: Path
) -> None:
    folder, expected = poisoned
    summary = extract(str(folder), str(tmp_path / "set"))
    dataset = Dataset.open(tmp_path / "set")
    refused = {r.source: r.reason for r in all_records(dataset.storage, dataset.manifest)}
    assert refused == {
        name: word.removeprefix("quarantined:") for name, word in expected.items() if ":" in word
    }
    assert clips_of(dataset) == {name: 1 for name, word in expected.items() if word in (KEPT, NEAR_DUPLICATE)}
    plan = dataset.plan()
    assert {n for n, s in plan.sources.items() if s.duplicate_of} == {
        n for n, word in expected.items() if word == DUPLICATE
    }
    assert not any(expected[name] == IGNORED for name in (*plan.sources, *refused))
    assert summary["quarantined"] == len(refused)
    assert summary["clips"] == sum(word in (KEPT, NEAR_DUPLICATE) for word in expected.values())
    assert summary["failed"] == {}

    again = extract(str(folder), str(tmp_path / "set"))
    assert again["content"] == summary["content"], "a second run changes nothing"


def test_of_near_copies_the_selection_keeps_one(
    poisoned: tuple[Path, dict[str, str]], extract: Extract, tmp_path: Path
) -> None:
    from pipelines.dataset.duplicates import find_duplicates

    folder, expected = poisoned
    copies = [name for name, word in expected.items() if word == NEAR_DUPLICATE]
    lines = ["uri", *(f"{folder}/{name}" for name in (*GOOD, *copies))]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    extract(str(tmp_path / "list.csv"), str(tmp_path / "set"))
    dataset = Dataset.open(tmp_path / "set")
    ids: dict[str, str] = {}
    prints = []
    for shard in dataset.generation()[1].shards:
        with dataset.clips(shard) as table:
            for row in table.select(["clip_id", "source", "fingerprint"]).to_pylist():
                ids[row["clip_id"]] = Path(row["source"]).name
                prints.append(row["fingerprint"])
    found = find_duplicates(list(ids), prints)
    assert [{ids[clip], ids[keeper]} for clip, keeper in found.items()] == [
        {"good 3.mp4", "good 3 smaller.mp4"}
    ]


def test_a_bucket_that_fails_now_and_then_gives_the_same_shards_as_a_folder(
    poisoned: tuple[Path, dict[str, str]], extract: Extract, flaky_s3: FaultProxy, tmp_path: Path
) -> None:
    folder, _ = poisoned
    (tmp_path / "videos").mkdir()
    for name in GOOD:
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).symlink_to(folder / name)
    bucket = f"s3://renders/{tmp_path.name}"
    source = open_storage(f"{bucket}/videos", flaky_s3.config)
    for name in GOOD:
        source.upload(name, folder / name)
    here = extract(str(tmp_path / "videos"), str(tmp_path / "set"))
    faults = [flaky_s3.add(Answer(503), times=2), flaky_s3.add(Cut(1000), times=4, methods=("GET",))]
    there = extract(f"{bucket}/videos", f"{bucket}/set", flaky_s3.config)
    assert [rule.times for rule in faults] == [0, 0]
    assert there["content"] == here["content"]
    first, second = Dataset.open(tmp_path / "set"), Dataset.open(f"{bucket}/set", flaky_s3.config)
    assert [e.sha256 for e in first.generation()[1].shards.values()] == [
        e.sha256 for e in second.generation()[1].shards.values()
    ]


def test_two_people_fill_one_dataset_at_the_same_time(extract: Extract, tmp_path: Path) -> None:
    folders = [tmp_path / "anna", tmp_path / "ben"]
    for k, folder in enumerate(folders):
        folder.mkdir()
        for n in range(3):
            write_talking_video(folder / f"{folder.name}-{n}.mp4", 10 * k + n, 1.6, size=128)
    with ThreadPoolExecutor(2) as both:
        list(both.map(lambda folder: extract(str(folder), str(tmp_path / "set")), folders))
    summaries = [extract(str(folder), str(tmp_path / "set")) for folder in folders]  # whatever was superseded
    assert [summary["clips"] for summary in summaries] == [6, 6]
    assert summaries[0]["content"] == summaries[1]["content"]
    dataset = Dataset.open(tmp_path / "set")
    clips = clips_of(dataset)
    assert clips == {f"{folder.name}-{n}.mp4": 1 for folder in folders for n in range(3)}
    assert set(dataset.manifest.arrivals) == set(clips)
