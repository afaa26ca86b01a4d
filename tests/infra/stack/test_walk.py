"""The demo's walk: each command is one, and what is done is not done again. `make chaos` goes all the way."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ifmdm_core.errors import IfmdmError
from infra.stack import walk
from infra.stack.home import Home
from infra.stack.place import Place
from infra.stack.settings import serve_config
from infra.stack.state import Settings, StackState, Started
from tests.docs.parsing import fault


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A stack that was started, as far as its record says."""
    home = Home(tmp_path / "home")
    state = StackState(
        id="a", temp=str(tmp_path), settings=Settings(), ports={"gateway": 8000, "mlflow": 5000}
    )
    state.services["ray"] = Started(pid=1, created=0, address="127.0.0.1:6379")
    return Place(home, state, serve_config(home, state.settings))


def test_each_step_is_a_command_that_the_command_line_takes(place: Place) -> None:
    steps = walk.steps(place, Path("demo"))
    assert [step.name for step in steps] == [
        "videos", "clips", "features", "selection", "training", "bundle", "evaluation", "register", "promote",
        "switch", "render",
    ]  # fmt: skip
    faults = [said for step in steps if (said := fault(list(step.command)))]
    assert faults == []


def test_it_goes_on_where_a_command_failed(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, then = tmp_path / "first", tmp_path / "then"
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nwith open(sys.argv[1], 'a') as file:\n    file.write('x')\n"
        "sys.exit(sys.argv[2] if sys.argv[2:] else 0)"
    )
    good = walk.Step("good", "", ("python", str(program), str(first)))
    bad = walk.Step("bad", "", ("python", str(program), str(then), "no"))
    todo = [good, bad]
    monkeypatch.setattr(walk, "steps", lambda *_: todo)
    said: list[str] = []
    with pytest.raises(
        IfmdmError, match=r"exit code 1 of: python .*then no; ifmdm demo --data goes on there"
    ):
        walk.walk(place, tmp_path / "demo", said.append)
    todo[1] = dataclasses.replace(bad, command=bad.command[:-1])
    walk.walk(place, tmp_path / "demo", said.append)
    walk.walk(place, tmp_path / "demo", said.append)
    assert (first.read_text(), then.read_text()) == ("x", "xx")
    assert any("done before" in line for line in said)
