"""`ifmdm model` as people call it, against an SQLite file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ifmdm_core.bundle import Bundle, load_bundle
from ifmdm_core.errors import BadInput, Conflict
from pipelines.commands.model import app
from tests.pipelines.registry.conftest import bundles, renamed, report_on

__all__ = ["bundles"]
Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `ifmdm model COMMAND ...` in a folder of its own, gives what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IFMDM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def call(*words: Any) -> str:
        capsys.readouterr()
        app(args=[str(word) for word in words], prog_name="ifmdm model", standalone_mode=False)
        return capsys.readouterr().out

    return call


def test_from_parts_to_champion(run: Run, bundles: list[Bundle], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no MLflow is set"):
        run("ls")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mlflow.db").touch()  # where trainings into ./runs have theirs
    one, other = bundles[0].folder, renamed(bundles[0], tmp_path / "second", "second")
    made = json.loads(
        run(
            "bundle",
            "out",
            "--name",
            "first",
            "--autoencoder",
            one,
            "--motion",
            one,
            "--speech",
            one,
            "--json",
        )
    )
    assert made["digest"] == load_bundle(tmp_path / "out").digest
    report_on(load_bundle(tmp_path / "out")).save(tmp_path / "first.json")
    report_on(other, S=1.0).save(tmp_path / "second.json")
    assert run("register", "anna", "out", "--evaluation", "first.json").startswith("anna/1  ")
    assert "anna/1 is champion" in run("promote", "models:/anna/1")
    run("register", "anna", "second", "--evaluation", "second.json")
    with pytest.raises(Conflict, match=r"S: FAILED, 1.00 \[0.90, 1.10\], champion 2.00"):
        run("promote", "models:/anna/2")

    listed = run("ls").splitlines()
    assert listed[0].startswith("anna/2  ")
    assert listed[1].startswith("anna/1 @champion  ")
    assert "S 2.00 [1.80, 2.20]" in listed[1]
    uri, digest = run("resolve", "models:/anna@champion").split()
    assert digest == made["digest"]
    assert (Path(uri) / "bundle.json").is_file()
    assert "# first" in run("show", "models:/anna@champion")
    differences = json.loads(run("diff", "models:/anna/1", "models:/anna/2", "--json"))
    found = {(entry["group"], entry["name"]): (entry["first"], entry["second"]) for entry in differences}
    assert found["record", "name"] == ("first", "second")
    assert found["figures", "S"] == ("2.00 [1.80, 2.20]", "1.00 [0.90, 1.10]")
    assert not any(group in ("files", "motion", "autoencoder") for group, _ in found)
    assert run("diff", "out", "out") == "no difference\n"


def test_a_diff_tells_networks_apart(run: Run, bundles: list[Bundle]) -> None:
    said = run("diff", bundles[0].folder, bundles[1].folder)
    assert f"encoder: {bundles[0].record.encoder} -> {bundles[1].record.encoder}" in said
