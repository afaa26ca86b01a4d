from __future__ import annotations

import subprocess
import sys
import time
import types

import pytest

from ifmdm_core import errors
from infra import cli


def _main(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    out, err = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, out, err


def _install(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """A command `fail` that raises `error`."""

    def app(**_: object) -> None:
        raise error

    module = types.ModuleType("failing_command")
    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "failing_command", module)
    monkeypatch.setitem(cli.COMMANDS, "fail", ("failing_command", "fails"))


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = _main(arguments, capsys)
    assert (code, err) == (0, "")
    assert all(f"\n  {name} " in out for name in cli.COMMANDS)


def test_help_is_fast() -> None:
    """Under 0.3 s on a quiet machine; printed, not asserted, because test machines are busy."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "infra.cli", "--help"], check=True, capture_output=True)
    print(f"ifmdm --help: {time.perf_counter() - started:.3f} s")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert _main(["--version"], capsys) == (0, "ifmdm 0.1.0\n", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rendr"], "unknown command 'rendr'; did you mean 'render'?"),
        (["--verbose"], "unknown option '--verbose'; valid:"),
        (
            ["render", "a.jpg", "b.wav", "-o", "c.mp4", "--stpes", "4"],
            "unknown option '--stpes'; did you mean '--steps'?",
        ),
        (["render", "a.jpg"], "missing argument 'AUDIO'"),
        (["render", "a.jpg", "b.wav"], "missing option '-o'"),
        (["render", "a.jpg", "b.wav", "-o", "c.mp4", "--steps", "many"], "invalid value for '--steps'"),
        (["demo", "trian"], "trian"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = _main(arguments, capsys)
    assert (code, out) == (2, "")
    assert says in err
    assert err.startswith("ifmdm: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (
            errors.BadInput("photo.jpg: no face", fix="--face none"),
            2,
            "ifmdm: photo.jpg: no face; --face none\n",
        ),
        (errors.NotFound("x"), 3, "ifmdm: x\n"),
        (errors.Forbidden("x"), 4, "ifmdm: x\n"),
        (errors.Conflict("x"), 5, "ifmdm: x\n"),
        (errors.Unsupported("x"), 6, "ifmdm: x\n"),
        (errors.Expired("x"), 8, "ifmdm: x\n"),
        (errors.Unavailable("x"), 75, "ifmdm: x\n"),
        (KeyboardInterrupt(), 130, "ifmdm: interrupted\n"),
        (MemoryError(), 70, "out of memory"),
        (ZeroDivisionError("division by zero"), 70, "internal error: ZeroDivisionError: division by zero; "),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 2, "pip install 'ifmdm[render]'"),
    ],
)
def test_errors_become_one_line_and_their_exit_code(
    error: BaseException,
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _install(monkeypatch, error)
    got, out, err = _main(["fail"], capsys)
    assert (got, out) == (code, "")
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["data", "train", "model", "jobs"])
def test_a_command_of_commands_alone_shows_what_it_has(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = _main([command], capsys)
    assert (code, err) == (0, "")
    assert out.count(f"Usage: ifmdm {command} ") == 1


def test_debug_shows_where_it_happened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _install(monkeypatch, ZeroDivisionError("division by zero"))
    code, _, err = _main(["fail", "--debug"], capsys)
    assert code == 70
    assert "Traceback" in err
    assert "raise error" in err


def test_a_commands_own_exit_code_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = types.ModuleType("code_command")
    module.app = lambda **_: 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "code_command", module)
    monkeypatch.setitem(cli.COMMANDS, "code", ("code_command", ""))
    assert _main(["code"], capsys)[0] == 3


def test_a_reader_that_leaves_early_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m infra.cli --help | true; echo ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "0"
    assert "Traceback" not in done.stderr
