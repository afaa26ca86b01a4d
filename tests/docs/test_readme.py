"""The three paths of README.md run as they stand, with small numbers and a stand-in for the stack's worker."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ifmdm_core.samples import SAMPLES
from ifmdm_core.storage import open_storage
from tests.docs.documents import ROOT, read
from tests.docs.typed import run_ifmdm, run_python, run_shell
from tests.docs.workers import instant_worker

README = read("README.md")
SHORT = {"fit.steps=60": "fit.steps=2 --set fit.validate_steps=2 --set data.batch=2 --local"}


def test_submit_a_render(room: Path) -> None:
    samples = room / SAMPLES.relative_to(ROOT)
    shutil.copytree(SAMPLES, samples)
    with instant_worker(open_storage(room / "ifmdm-local" / "bucket" / "jobs")):
        _, listed = run_shell(README.block("ifmdm jobs submit"))
    assert "published" in listed
    assert (room / "ifmdm-local" / "bucket" / "out" / "mine.mp4").exists()


def test_rendering_in_python(room: Path, tiny_bundle: Path) -> None:
    said = run_python(README.block("TalkingHead.load"), {'"demo"': repr(str(tiny_bundle))})
    assert "3)" in said
    assert (room / "out.mp4").stat().st_size > 1_000


def test_re_extract_a_dataset(dataset: Path) -> None:
    """The fixture has run it."""
    code, said = run_ifmdm("data", "ls", str(dataset), "--json")
    assert code == 0, said
    assert sorted(one["kind"] for one in json.loads(said)["features"]) == ["motion", "speech", "speech"]


@pytest.mark.usefixtures("dataset")
def test_run_and_compare_an_experiment() -> None:
    _, _, compared = run_shell(README.block("--name slow"), SHORT)
    shown = {tuple(line.split()[:4]) for line in compared.splitlines()}
    assert {(name, "motion", "finished", "2/2") for name in ("slow", "fast")} <= shown
