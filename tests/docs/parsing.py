"""Commands as the real command line would take them, up to the moment where they would run."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import io
import re
import runpy
import sys
import tomllib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

from typer.core import TyperCommand

from infra import cli
from tests.docs.documents import ROOT
from tests.docs.shell import KNOWN

OURS = ("ifmdm_core", "pipelines", "jobs", "serve", "infra", "tests")
PLACEHOLDER = re.compile(r"^\W*[A-Z][A-Z0-9_:|-]*\W*$|[…<>]|\.\.\.")
"""Stands for a value in a sentence: ID, N|LEAST:MOST, …"""
_WRITTEN = {"-o", "--out", "--output", "--picture", "--log"}
"""Options that name what is to be made."""


def fault(words: Sequence[str], *, whole: bool = True) -> str | None:
    """What is wrong with a command, or None. Nothing is run and nothing is written.

    Args:
        words: a simple command.
        whole: False for one named in a sentence, which may leave out arguments and have placeholders.
    """
    program, arguments = Path(words[0]).name, list(words[1:])
    if program not in KNOWN:
        return f"{program!r} is no program that these documents know (tests/docs/shell.py)"
    if program == "ifmdm":
        return ifmdm_fault(arguments, whole=whole)
    if program == "make":
        return _make_fault(arguments)
    if program.startswith("python") and arguments[:1] == ["-m"] and len(arguments) > 1:
        return module_fault(arguments[1], arguments[2:], whole=whole)
    if program.startswith("python") and arguments[:1] == ["-c"]:
        return _python_fault(arguments[1])
    if program == "pip":
        return _extras_fault(arguments)
    return missing_path(arguments)


def ifmdm_fault(arguments: Sequence[str], *, whole: bool = True) -> str | None:
    """What `ifmdm` says to these arguments before it would do anything."""
    given = [*arguments] if whole else ["1" if PLACEHOLDER.search(word) else word for word in arguments]
    for _ in range(8):
        said = _ifmdm_says(given)
        if whole or said is None:
            return said or missing_path(given)
        if any(f"missing {what}" in said for what in ("argument", "option", "command")):
            return None
        if "requires an argument" not in said:
            return said
        option = re.search(r"'(-[\w-]+)'", said)
        if option is None:
            return said
        at = given.index(option[1])
        given = [*given[: at + 1], "1", *given[at + 1 :]]
    return "more options without their values than a sentence should have"


def module_fault(module: str, arguments: Sequence[str], *, whole: bool = True) -> str | None:
    """What `python -m module arguments` says before it would do anything; of others' modules: whether it is there."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None:
        return f"there is no module {module}"
    if module.partition(".")[0] not in OURS:
        return None
    if spec.submodule_search_locations is not None:
        module += ".__main__"
        spec = importlib.util.find_spec(module)
        if spec is None:
            return f"{module} is no program"
    source = Path(str(spec.origin)).read_text()
    if "__main__" not in source and not module.endswith("__main__"):
        return f"{module} is no program"
    if "ArgumentParser" not in source:
        return f"{module} takes no arguments" if arguments else None
    with _quiet() as said, _nothing_runs(whole), mock.patch.object(sys, "argv", [module, *arguments]):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=False)
        except _Parsed:
            return None
        except SystemExit as end:
            return None if not end.code else f"{module}: {said.getvalue().strip().splitlines()[-1]}"
    return f"{module} did something before it had read its arguments"


@functools.cache
def option_names() -> frozenset[str]:
    """Every option that any command of ifmdm or any program of this repository has."""
    found = {"--help", "--debug", "--version"}
    for room in OURS:
        for path in (ROOT / room).rglob("*.py"):
            source = path.read_text()
            found.update(re.findall(r"[\"'](--[a-z][\w-]*)", source))
            if "typer" in source:  # a parameter's name is its option's
                named = re.findall(r"^    ([a-z]\w*): (?:Annotated|\w+Option)", source, flags=re.M)
                found.update("--" + name.replace("_", "-") for name in named)
    return frozenset(found)


def missing_path(arguments: Sequence[str]) -> str | None:
    """The first argument that names a file of this repository that is not there. Files to write need not be."""
    for before, word in zip(["", *arguments], arguments):
        if before in _WRITTEN:
            continue
        for part in word.split("="):
            if is_ours(part) and not (ROOT / part).exists():
                return f"there is no {part}"
    return None


def is_ours(path: str) -> bool:
    """Whether it is a path into this repository, whole and without placeholders."""
    first, slash, _ = path.partition("/")
    wild = re.search(r"[<>*{}…$\s]", path)
    return bool(slash) and not wild and first in (*OURS, "configs", "docs", ".ci")


def _ifmdm_says(arguments: Sequence[str]) -> str | None:
    with _quiet() as said, _nothing_runs():
        try:
            cli.main(list(arguments))
        except SystemExit as end:
            return None if not end.code else said.getvalue().strip().splitlines()[-1]
    return "did not end"


def _make_fault(arguments: Sequence[str]) -> str | None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    for word in arguments:
        if not word.startswith("-") and "=" not in word and word not in targets:
            return f"the Makefile has no target {word!r}"
    return None


def _extras_fault(arguments: Sequence[str]) -> str | None:
    offered = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extras in re.findall(r"(?:ifmdm|\.)\[([\w,-]+)\]", " ".join(arguments)):
        for extra in extras.split(","):
            if extra not in offered:
                return f"ifmdm has no extra {extra!r}"
    return None


def _python_fault(code: str) -> str | None:
    try:
        compile(code, "python -c", "exec")
    except SyntaxError as error:
        return f"python -c: {error}"
    return None


class _Parsed(BaseException):
    """The arguments were read, and are right."""


@contextlib.contextmanager
def _nothing_runs(whole: bool = True) -> Iterator[None]:
    """Commands are looked up and their options converted, by typer or argparse; then they end."""
    owner = next(base for base in TyperCommand.__mro__ if "invoke" in vars(base))
    parse = argparse.ArgumentParser.parse_args

    def parse_only(parser: argparse.ArgumentParser, *given: object) -> None:
        if not whole:
            for option in (*parser._actions, *parser._mutually_exclusive_groups):
                option.required = False
        parse(parser, *given)  # type: ignore[call-overload]
        raise _Parsed

    with (
        mock.patch.object(owner, "invoke", return_value=0),
        mock.patch.object(argparse.ArgumentParser, "parse_args", parse_only),
    ):
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    said = io.StringIO()
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(said),
        warnings.catch_warnings(action="ignore"),  # runpy's, of modules that were imported before
    ):
        yield said
