"""`ifmdm jobs work` before anything starts: what it checks, and when --until-done has come."""

from __future__ import annotations

from pathlib import Path

import pytest

from ifmdm_core.storage import open_storage
from infra import cli
from infra.commands.jobs import COMMANDS
from infra.commands.jobs_work import UntilDone
from tests.jobs.small_store import SmallStore


def _main(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    out, err = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, out, err


@pytest.fixture
def root(tmp_path: Path) -> Path:
    SmallStore(tmp_path / "store")
    return tmp_path / "store"


def test_help_names_work_among_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _main(["jobs", "--help"], capsys)
    assert code == 0
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert list(COMMANDS)[:3] == ["init", "submit", "work"]


def test_a_dry_run_says_what_would_start(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _main(["jobs", "work", str(root), "--local", "--slots", "3", "--dry-run"], capsys)
    assert code == 0
    assert f"{root}: a job store; in this process, 3 jobs at a time each; model demo" in out


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--local", "--workers", "2"], 2, "--local is one worker"),
        (["--local", "--ray", "auto"], 2, "--local is one worker"),
        (["--takeover", "1"], 2, "--takeover"),
        (["--webhook-secret", "none.txt"], 3, "none.txt"),
        (["--set", "decoder.btach=2"], 2, "did you mean 'batch'?"),
        (["--slot", "2"], 2, "did you mean '--slots'?"),
        (["--ray", "127.0.0.1:1"], 75, "no Ray cluster at '127.0.0.1:1'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(
    root: Path, options: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _, err = _main(["jobs", "work", str(root), *options], capsys)
    assert (found, says in err) == (code, True), err


def test_a_short_secret_of_webhooks_is_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_text("too short")
    code, _, err = _main(["jobs", "work", str(root), "--webhook-secret", str(tmp_path / "secret")], capsys)
    assert (code, "less than 16 bytes" in err) == (2, True), err


def test_what_is_no_store_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = _main(["jobs", "work", str(tmp_path), "--local"], capsys)
    assert (code, "no job store" in err) == (3, True), err


def test_all_is_done_when_nothing_waits_or_runs_at_two_looks(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    done = UntilDone(storage)
    for key in ("inbox/default/a.json", "queue/default/x", "later/x/y", "running/w/z"):
        storage.put(key, b"")
        assert not done()
        storage.delete(key)
        assert not done()  # it may just be on its way from one to the other
        assert done()
