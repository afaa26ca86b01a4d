"""The demo recipe: its steps, in order, each a command that exists."""

import importlib

import pytest

from ifmdm_core.training import recipe

PATHS = ["--manifest", "clips.csv", "--landmarker", "face.task"]


def test_every_step_is_a_module_that_can_be_run(tmp_path):
    for step in recipe.steps(tmp_path / "clips.csv", tmp_path / "face.task", tmp_path):
        assert callable(importlib.import_module(step.module).main)


def test_no_step_needs_what_a_later_one_makes(tmp_path):
    made: set[str] = set()
    steps = recipe.steps(tmp_path / "clips.csv", tmp_path / "face.task", tmp_path)
    results = {str(step.result) for step in steps}
    for step in steps:
        needed = {str(a) for a in step.arguments} & results
        assert needed <= made, step.name
        made.add(str(step.result))


def test_training_minutes_add_up(tmp_path):
    shares = [step.share for step in recipe.steps(tmp_path, tmp_path, tmp_path)]
    assert sum(shares) == pytest.approx(1, abs=0.01)


def test_a_dry_run_prints_commands_and_makes_nothing(tmp_path, capsys):
    recipe.main([*PATHS, "--work", str(tmp_path / "work"), "--minutes", "10", "--dry-run"])
    printed = capsys.readouterr().out
    assert "ifmdm_core.training.labels" in printed
    assert "--phase finish --minutes 1.40" in printed
    assert not (tmp_path / "work").exists()


def test_a_finished_step_is_skipped_and_a_failing_one_named(tmp_path, capsys):
    (tmp_path / "labelled").touch()
    with pytest.raises(recipe.StepFailed, match="crops failed"):
        recipe.main([*PATHS, "--work", str(tmp_path)])
    assert "labels: done" in capsys.readouterr().out
