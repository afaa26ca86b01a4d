"""The stack's folder and its record."""

from __future__ import annotations

from pathlib import Path

import pytest

from ifmdm_core.errors import Busy, Conflict, Forbidden, Unsupported
from infra.stack.home import Home
from infra.stack.settings import Asked
from infra.stack.state import Settings, StackState, Started


def test_the_folder_is_as_given_or_of_the_environment_or_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IFMDM_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert Home.find().folder == tmp_path / "ifmdm-local"
    monkeypatch.setenv("IFMDM_HOME", str(tmp_path / "mine"))
    assert Home.find().folder == tmp_path / "mine"
    assert Home.find("given").folder == tmp_path / "given"


def test_what_is_written_is_read_again_until_it_is_forgotten(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.read() is None
    state = StackState(id="a", temp="/tmp/x", settings=Settings(s3=True, changes=("a=b",)), ports={"ray": 1})
    state.services["ray"] = Started(pid=7, created=1.5, address="h:1")
    home.write(state)
    assert home.read() == state
    home.forget()
    home.forget()
    assert home.read() is None


def test_a_damaged_record_is_named_with_what_to_do(tmp_path: Path) -> None:
    home = Home(tmp_path)
    (tmp_path / "stack.json").write_text('{"version": 1, "id": "a"')
    with pytest.raises(Conflict, match=r"stack\.json is damaged.*delete the file"):
        home.read()
    (tmp_path / "stack.json").write_text(
        '{"version": 1, "id": "a", "temp": "t", "settings": {"workers": -1}}'
    )
    with pytest.raises(Conflict, match=r"settings\.workers"):
        home.read()
    (tmp_path / "stack.json").write_text('{"version": 2, "id": "a", "temp": "t", "settings": {}}')
    with pytest.raises(Unsupported, match="another version"):
        home.read()


def test_two_commands_do_not_change_one_stack_at_a_time(tmp_path: Path) -> None:
    home = Home(tmp_path / "new")
    with home.locked(), pytest.raises(Busy, match="at work"), Home(tmp_path / "new").locked():
        pass
    with home.locked():
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Forbidden, match="--home"):
        Home(tmp_path / "file" / "home").make()
    with pytest.raises(Forbidden, match="--home"), Home(tmp_path / "file" / "home").locked():
        pass


def test_data_are_removed_and_what_others_put_there_stays(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    (home.bucket / "out").mkdir()
    (home.folder / "notes.txt").touch()
    home.remove_data()
    assert [path.name for path in home.folder.iterdir()] == ["notes.txt"]
    (home.folder / "notes.txt").unlink()
    home.make()
    home.remove_data()
    assert not home.folder.exists()


def test_options_that_are_not_given_keep_what_runs(tmp_path: Path) -> None:
    before = Settings(s3=True, workers=2)
    assert Asked().over(before, runs=True) == before
    assert Asked(workers=2).over(before, runs=True) == before
    assert Asked(workers=3).over(before, runs=False).workers == 3
    with pytest.raises(Conflict, match=r"--workers 2, not 3; ifmdm down"):
        Asked(workers=3).over(before, runs=True)
    assert Asked(serve=Path("a.yaml")).over(None, runs=False).serve == str(Path("a.yaml").absolute())
