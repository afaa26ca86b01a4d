"""Bundles, evaluations of them, and runs that have ended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ifmdm_core.bundle import Bundle, load_bundle
from ifmdm_core.metrics.tables import Figure
from ifmdm_core.provenance import sha256_of_file
from pipelines.evaluate.report import EvaluationReport, HeldOut
from pipelines.features.encoders import speech_identity
from pipelines.training.git_state import GitState
from pipelines.training.result import RESULT, ResultRecord
from pipelines.training.run import DataRecord, RunFolder, RunRecord

GOOD = {"S": 2.0, "lip_r": 0.5, "reconstruction_gain_db": 4.0, "seam_ratio": 1.0}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IFMDM_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def bundles(make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Two, of different encoders; do not write to them."""
    room = tmp_path_factory.mktemp("bundles")
    return [load_bundle(make_bundle(room / f"b{seed}", seed)) for seed in (0, 1)]


def report_on(
    bundle: Bundle, held_out: str = "clips", created: str = "2026-01-01T00:00:00Z", **changes: float | None
) -> EvaluationReport:
    """Figures with intervals of +-10 %; a changed figure that is None was not measured."""
    values = {name: value for name, value in (GOOD | changes).items() if value is not None}
    figures = {
        name: Figure(
            value=value, low=value * 0.9, high=value * 1.1, count=12,
            better="near 1" if name == "seam_ratio" else "higher",
        )
        for name, value in values.items()
    }  # fmt: skip
    return EvaluationReport(
        bundle=bundle.record.name, bundle_digest=bundle.digest, created=created, seconds=1,
        held_out=HeldOut(uri="data/set", dataset=held_out, settings="as always", clips={"clips": 12}),
        settings={}, figures=figures, unavailable={"S": "no landmarker"} if changes.get("S", 0) is None else {},
    )  # fmt: skip


def write_run(folder: Path, stage: str, weights: Path, bundle: Bundle, data: DataRecord | None = None) -> str:
    """A run that ended with these weights; returns its address."""
    data = data or DataRecord(
        dataset="/somewhere/private/set", manifest=7, content="c" * 32, generation="g1", clips=3, frames=90,
        speech=speech_identity(bundle.folder).digest("g1"), motion="5" * 16,
        motion_encoder=bundle.record.encoder, speech_encoder=speech_identity(bundle.folder).encoder,
    )  # fmt: skip
    run = RunFolder.at(str(folder))
    train_id = stage.encode().hex().ljust(32, "0")[:32]
    run.create(
        RunRecord(
            name=folder.name, train_id=train_id, stage=stage, created="2026-01-01T00:00:00Z", config={},
            data=data, git=GitState(),
        )
    )  # fmt: skip
    target = folder / "result"
    if weights.is_dir():
        shutil.copytree(weights, target / "speech")
    else:
        target.mkdir()
        shutil.copyfile(weights, target / weights.name)
    files = sorted(path for path in target.rglob("*") if path.is_file())
    result = ResultRecord(
        name=folder.name, train_id=train_id, stage=stage, step=100, created="2026-01-01T00:00:00Z",
        sha256={path.relative_to(target).as_posix(): sha256_of_file(path) for path in files},
        checkpoint="d" * 64, data=data, lineage={},
    )  # fmt: skip
    run.storage.put(RESULT, result.model_dump_json().encode())
    assert json.loads((folder / "run.json").read_text())["stage"] == stage
    return str(folder)


def renamed(bundle: Bundle, folder: Path, name: str, lineage: dict[str, str] | None = None) -> Bundle:
    """The same weights as another bundle, so another digest."""
    shutil.copytree(bundle.folder, folder)
    record = json.loads((folder / "bundle.json").read_text()) | {"name": name, "lineage": lineage or {}}
    (folder / "bundle.json").write_text(json.dumps(record))
    return load_bundle(folder)
