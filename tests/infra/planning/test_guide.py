"""What docs/planning.md shows runs as it stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.planning.from_jobs import Sample
from infra.planning.rates import Rates, load_rates
from tests.docs.documents import ROOT, read
from tests.docs.typed import run_shell
from tests.infra.planning.test_from_jobs import one_after_the_other
from tests.jobs.small_store import SmallStore

GUIDE = read("docs/planning.md")


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rates: Rates) -> Path:
    """A folder to type in, with rates and a manifest."""
    monkeypatch.chdir(tmp_path)
    rates.save(tmp_path / "rates.json")
    (tmp_path / "rows.csv").write_text("speech_seconds\n2\n3\n")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    return tmp_path


def test_rates_from_jobs(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SmallStore(room / "jobs")
    samples: list[Sample] = one_after_the_other([25, 50, 75, 100, 125], 0.05)
    monkeypatch.setattr("infra.planning.from_jobs.read_samples", lambda store: samples)
    run_shell(GUIDE.block("--from-jobs"), {"s3://renders/jobs": str(room / "jobs")})
    assert load_rates("rates.json").slots == 1


def test_rates_from_a_bench(room: Path) -> None:
    run_shell(GUIDE.block("--from-bench"))
    assert load_rates("rates.json").extraction is not None


def test_plans(room: Path) -> None:
    (said,) = run_shell(GUIDE.block("--renders-per-day"))
    assert "extraction" in said
    (said,) = run_shell(GUIDE.block("--makespan"))
    assert "2 jobs in" in said


def test_a_day(room: Path) -> None:
    changes = {
        "docs/simulation.json": "day.json",
        "docs/pictures/simulation.png": "day.png",
        "cut=0.02": "cut=0.01 --set hours=0.05",
    }
    (said,) = run_shell(GUIDE.block("ifmdm simulate --set"), changes)
    assert "jobs published in" in said
    assert json.loads((room / "day.json").read_text())["scenario"]["cut"] == 0.01
    assert (room / "day.png").exists()
