"""What a training says of itself, by a clock that the test turns."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Any

import pytest

from pipelines.training.driver import Launch
from pipelines.training.launch import resume, train
from pipelines.training.progress import TrainingProgress


def told(step: int) -> dict[str, Any]:
    values = {"velocity": 0.25, "loss": 0.5, "base": 0.125, "lips": 0.0625, "grad_norm": 3.0}
    return {"step": step, "fraction": step / 1200, "steps_per_s": 2.0, "waiting": 0.05, "values": values}


def test_stages_are_told_at_once_and_steps_once_a_minute() -> None:
    out, at = io.StringIO(), [0.0]
    noon = datetime(2026, 1, 1, 12)
    with TrainingProgress("motion", out=out, clock=lambda: at[0], now=lambda: noon) as progress:
        progress.say("starting Ray on this machine")
        progress.call("motion first")
        progress.say("starting 2 workers")
        progress.tell(None)
        for step in (10, 20, 30):
            progress.tell(told(step))
            at[0] += 45
    assert out.getvalue().splitlines() == [
        "12:00:00 motion starting Ray on this machine",
        "12:00:00 motion first starting 2 workers",
        "12:00:00 motion first step 10 (1 %), loss 0.5 base 0.125 grad_norm 3 lips 0.0625, 2 steps/s, "
        "5 % waiting for data, 10 min left",
        *["12:00:00 motion first step 30 (2 %), loss 0.5 base 0.125 grad_norm 3 lips 0.0625, 2 steps/s, "
          "5 % waiting for data, 10 min left"] * 2,
    ]  # fmt: skip


class Terminal(io.StringIO):
    """Text that calls itself a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_that_names_the_stage_and_then_the_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with TrainingProgress("motion", out=out) as progress:
        progress.say("starting 2 workers")
    assert "starting 2 workers" in out.getvalue()
    out = Terminal()
    with TrainingProgress("motion", out=out) as progress:
        progress.say("starting 2 workers")
        progress.tell(told(10))
    bar, line = out.getvalue().rsplit("\n", 2)[:2]
    assert "step 10" in bar
    assert "motion step 10 (1 %)" in line


def test_quiet_says_nothing() -> None:
    out = io.StringIO()
    with TrainingProgress("motion", quiet=True, out=out, live=True) as progress:
        progress.say("starting")
        progress.tell(told(10))
    assert out.getvalue() == ""
    assert progress.last["step"] == 10


def test_a_training_says_what_it_does_before_its_first_step(
    motion_config: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    result = train("motion", motion_config, name="said", launch=Launch(local=True))
    said = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines() if line[2:3] == ":"]
    dataset = motion_config["data"]["dataset"]
    assert said[:3] == [
        f"motion looking at {dataset}",
        "motion fitting statistics over at most 512 clips",
        "motion said starting to train in this process",
    ]
    assert said[3].startswith("motion said step ")
    resume(result.run, launch=Launch(local=True))
    assert capsys.readouterr().err == ""
