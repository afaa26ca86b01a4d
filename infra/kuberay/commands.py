"""Command lines in manifests, parsed by the very programs they name, without running them."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any
from unittest import mock

from ifmdm_core.errors import BadInput, IfmdmError, nearest
from infra import cli

PROGRAMS = ("ifmdm", "mlflow", "python", "ray")


def check_line(line: str) -> None:
    """A line for a shell: commands with && and || between them. Raises BadInput as `check`."""
    for words in commands_of(line):
        check(words)


def commands_of(line: str) -> list[list[str]]:
    """The commands of a shell's line, in words. Raises BadInput for quotes that do not end."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    try:
        for word in lexer:
            if set(word) <= set("&|;"):
                found.append([])
            else:
                found[-1].append(word)
    except ValueError as error:
        raise BadInput(f"{line!r}: {error}") from None
    return [words for words in found if words]


def check(words: list[str]) -> None:
    """Raises BadInput for another program than ours, an unknown command or option, a missing or impossible value."""
    program, *rest = words
    if program == "ifmdm":
        _ifmdm(rest)
    elif program == "mlflow":
        from mlflow.cli import cli as command

        _click(command, rest, program)
    elif program == "ray":
        from ray.scripts.scripts import cli as command

        _click(command, rest, program)
    elif program == "python":
        _python(rest)
    else:
        raise BadInput(f"unknown program {program!r}", fix=nearest(program, PROGRAMS))


@cache
def ray_start_options() -> frozenset[str]:
    """The names that rayStartParams may have."""
    from ray.scripts.scripts import start

    return frozenset(
        name.removeprefix("--") for option in start.params for name in option.opts if name[:2] == "--"
    )


def _ifmdm(words: list[str]) -> None:
    with _only_parsed():
        try:
            cli._run(words)
        except IfmdmError:
            raise
        except Exception as error:
            raise cli._as_ours(error) from None


@contextlib.contextmanager
def _only_parsed() -> Iterator[None]:
    """Commands of typer take their words apart, and then do nothing."""
    from typer.core import TyperCommand

    with mock.patch.object(TyperCommand, "invoke", return_value=None):
        yield


def _click(command: Any, words: list[str], program: str) -> None:
    from click import ClickException
    from click.exceptions import NoSuchOption

    try:
        context = command.make_context(program, list(words))
        if hasattr(command, "resolve_command"):
            _, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            _click(inner, rest, f"{program} {inner.name}")
    except NoSuchOption as error:
        names = [name for option in error.ctx.command.params for name in option.opts] if error.ctx else []
        raise BadInput(
            f"{program}: unknown option {error.option_name!r}", fix=nearest(error.option_name, names)
        ) from None
    except ClickException as error:
        raise BadInput(f"{program}: {error.format_message()}") from None


def _python(words: list[str]) -> None:
    """Only `-m` with a module of ours that has a `parser()`."""
    if len(words) < 2 or words[0] != "-m":
        raise BadInput(f"python {' '.join(words)}: not a module of ours", fix="python -m MODULE")
    try:
        parser = importlib.import_module(words[1]).parser()
    except (ImportError, AttributeError) as error:
        raise BadInput(f"python -m {words[1]}: {error}") from None
    problems: list[str] = []
    parser.error = problems.append
    parser.parse_args(words[2:])
    if problems:
        names = [name for action in parser._actions for name in action.option_strings]
        wrong = next((word for word in words[2:] if word.startswith("-") and word not in names), "")
        raise BadInput(f"python -m {words[1]}: {problems[0]}", fix=nearest(wrong, names) if wrong else "")
