"""What Prometheus is told of a job store."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from jobs.figures import METRICS, JobFigures, look
from serve.metrics import GatewayMetrics
from tests.jobs.small_store import SmallStore
from tests.jobs.test_fsck import everything


@pytest.fixture
def disk(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


def test_a_look_counts_what_waits_runs_and_died(disk: SmallStore) -> None:
    disk.let_in("other")
    everything(disk)
    disk.submit("b", tenant="other")
    disk.grow_older(100, "queue/other/")
    found = look(disk.store)
    assert found.waiting == {"default": 1, "other": 1}
    assert found.running == {"default": 2}
    assert found.oldest_s["other"] >= 100
    assert found.oldest_s["default"] < 60


def told(metrics: GatewayMetrics) -> dict[str, float]:
    samples = [sample for family in parse(metrics.exposition()[0].decode()) for sample in family.samples]
    assert all(sample.labels["gateway"] == "one" for sample in samples)
    return {s.name: s.value for s in samples if s.name in {spec.name for spec in METRICS}}


def test_figures_are_told_beside_the_gateway_s_own(disk: SmallStore) -> None:
    disk.submit("a")
    figures, metrics = JobFigures(disk.store), GatewayMetrics("one")
    metrics.include(figures)
    figures.refresh()
    found = told(metrics)
    assert found["ifmdm_jobs_waiting"] == 1
    assert found["ifmdm_job_workers"] == 0
    assert found["ifmdm_jobs_seen_timestamp_seconds"] > 1e9


def test_a_scrape_waits_for_no_store_and_a_lost_store_leaves_the_last_figures(
    disk: SmallStore, tmp_path: Path
) -> None:
    figures, metrics = JobFigures(disk.store), GatewayMetrics("one")
    metrics.include(figures)
    told(metrics)  # begins to look, and does not wait for it
    for thread in threading.enumerate():
        if thread.name == "job-figures":
            thread.join()
    before = told(metrics)
    assert before["ifmdm_job_workers"] == 0
    (tmp_path / "store").rename(tmp_path / "away")
    figures.refresh()
    assert told(metrics) == before


def test_the_guide_lists_every_figure() -> None:
    guide = (Path(__file__).parents[2] / "docs/runbooks.md").read_text()
    for spec in METRICS:
        assert f"| `{spec.name}` | {spec.kind} | {', '.join(spec.labels)} | {spec.help} |" in guide
