"""`ifmdm train` as it is typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.cli import main
from tests.pipelines.training.conftest import figures, lip_bundle, motion_config, tiny_set

__all__ = ["figures", "lip_bundle", "motion_config", "tiny_set"]  # fixtures

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ifmdm(capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["train", *words])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def config(motion_config: dict[str, Any], tmp_path: Path) -> str:
    path = tmp_path / "motion.json"
    path.write_text(json.dumps(motion_config))
    return str(path)


def test_train_list_resume_and_sync(ifmdm: Command, config: str, motion_config: dict[str, Any]) -> None:
    code, said, progress = ifmdm(
        "motion", config, "--local", "--name", "one", "--set", "fit.steps=6", "--json"
    )
    assert code == 0, progress
    result = json.loads(said)
    assert result["step"] == 6
    assert Path(result["weights"]).is_file()
    assert "step 6 (100 %), loss" in progress
    code, said, _ = ifmdm("ls", motion_config["runs"])
    assert code == 0
    assert [line.split()[:4] for line in said.splitlines()[1:]] == [["one", "motion", "finished", "6/6"]]
    code, said, _ = ifmdm("resume", result["run"], "--local")
    assert (code, said.splitlines()[0]) == (0, result["weights"])
    code, said, _ = ifmdm("sync", result["run"], "--json")
    assert (code, json.loads(said)["pending"]) == (0, 0)
    code, _, error = ifmdm("motion", config, "--local", "--name", "one")
    assert code == 5
    assert "there is a run" in error


def test_dry_run(ifmdm: Command, config: str) -> None:
    code, said, _ = ifmdm("motion", config, "--dry-run")
    assert code == 0
    assert "steps       12 of 8 samples: 6 times every clip" in said
    code, said, _ = ifmdm("motion", config, "--dry-run", "--json", "--workers", "2:4")
    assert json.loads(said)["config"]["workers"]["count"] == [2, 4]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--set", "fit.stepz=3"], 2, "unknown setting 'fit.stepz'; did you mean 'steps'?"),
        (["--set", "data.dataset=/nowhere"], 3, "data.dataset: /nowhere is no dataset"),
        (["--local", "--workers", "2"], 2, "--local trains in this one process"),
        (["--workers", "many"], 2, "--workers 'many' is no number"),
        (["--ray", "127.0.0.1:1"], 75, "no Ray cluster at '127.0.0.1:1'"),
        (["--name", "a/b"], 2, "run name 'a/b' is no plain name"),
    ],
)
def test_mistakes_end_with_their_exit_code(
    ifmdm: Command, config: str, words: list[str], code: int, message: str
) -> None:
    found, _, error = ifmdm("motion", config, *words)
    assert (found, message in error) == (code, True), error


def test_a_missing_file_and_a_missing_run(ifmdm: Command, tmp_path: Path) -> None:
    code, _, error = ifmdm("speech", str(tmp_path / "none.yaml"))
    assert (code, "no configuration file" in error) == (3, True)
    code, _, error = ifmdm("resume", str(tmp_path / "none"))
    assert (code, "is no training run" in error) == (3, True)
