"""What can be wrong with a document, each with its line; nothing that it says is run."""

from __future__ import annotations

import ast
import functools
import json
import os
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit

import yaml

from tests.docs.documents import ROOT, Block, Document, read
from tests.docs.parsing import OURS, fault, is_ours, option_names
from tests.docs.shell import commands, is_shell

_SIBLINGS = re.compile(r"`(ifmdm [^`]+)`((?:,? ?(?:and |or |\| )?`[a-z-]+`)+)")
_DOTTED = re.compile(rf"(?:{'|'.join(OURS)})(?:\.\w+)+")
_FILES = (".yaml", ".yml", ".json", ".jsonl", ".csv", ".py", ".md", ".log", ".toml")
_ENV = re.compile(r"\bIFMDM_[A-Z0-9_]+\b")


def command_faults(document: Document) -> Iterator[str]:
    """Commands in blocks and sentences that the command line, the Makefile or the repository does not know."""
    for block in document.blocks:
        yield from (f"{document.name}:{line}: {said}" for line, said in _block_faults(block))
    for line, code in document.code:
        yield from (f"{document.name}:{line}: `{code}`: {said}" for said in _sentence_faults(code))
    for first, others in _SIBLINGS.findall(" ".join(document.prose.split())):
        for other in re.findall(r"`([^`]+)`", others):
            words = [word for word in first.split() if not word.startswith("-") and word.islower()]
            if said := fault([*words[:-1], other], whole=False):
                yield f"{document.name}: `{first}` … `{other}`: {said}"


def mark_faults(document: Document) -> Iterator[str]:
    """Blocks of commands or Python that say neither which test runs them nor why none does, or say it wrongly."""
    for block in document.blocks:
        where = f"{document.name}:{block.line}"
        if not (is_shell(block.language, block.text) or block.language == "python"):
            if block.run_by or block.not_run:
                yield f"{where}: a mark, but nothing to run"
        elif block.run_by is not None:
            yield from (f"{where}: {said}" for said in _test_faults(block.run_by, document))
        elif block.not_run is None:
            yield f"{where}: put <!-- run by: tests/….py::test --> or <!-- not run: REASON --> before it"
        elif len(block.not_run.split()) < 2:
            yield f"{where}: {block.not_run!r} is no reason"


def link_faults(document: Document) -> Iterator[str]:
    """Links to files or headings that are not there; addresses that are none. Nothing is fetched."""
    for line, link in document.links:
        where = f"{document.name}:{line}: {link}"
        parts = urlsplit(link)
        if parts.scheme:
            if parts.scheme not in ("https", "http", "mailto") or "." not in (parts.netloc or parts.path):
                yield f"{where}: no address"
            continue
        if not parts.path:
            if parts.fragment not in document.anchors:
                yield f"{where}: {document.name} has no such heading"
            continue
        target = ((ROOT / document.name).parent / parts.path).resolve()
        if not target.exists() or not target.is_relative_to(ROOT):
            yield f"{where}: no such file"
        elif parts.fragment and target.suffix == ".md":
            name = target.relative_to(ROOT).as_posix()
            if parts.fragment not in read(name).anchors:
                yield f"{where}: {name} has no such heading"


def name_faults(document: Document) -> Iterator[str]:
    """Paths, modules and environment variables of this project that do not exist."""
    for line, code in document.code:
        where = f"{document.name}:{line}: `{code}`"
        if is_ours(code) and not (ROOT / code).exists():
            yield f"{where}: no such file"
        dotted = _DOTTED.match(code)
        if dotted and "/" not in code and not code.endswith(_FILES):
            try:
                pkgutil.resolve_name(dotted[0])
            except (ImportError, AttributeError, ValueError) as error:
                yield f"{where}: {error}"
    for name in sorted(set(_ENV.findall(document.text)) - _variables()):
        yield f"{document.name}: nothing reads {name}"


def _block_faults(block: Block) -> Iterator[tuple[int, str]]:
    try:
        if is_shell(block.language, block.text):
            exported: dict[str, str] = {}
            for line, words in commands(block.text, block.line):
                if words[0] == "export":
                    exported.update(word.split("=", 1) for word in words[1:] if "=" in word)
                with mock.patch.dict(os.environ, exported):
                    said = fault(words)
                if said:
                    yield line, said
        elif block.language == "python":
            ast.parse(block.text)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "yaml":
            list(yaml.safe_load_all(block.text))
    except (ValueError, SyntaxError, yaml.YAMLError) as error:
        yield block.line, str(error)


def _sentence_faults(code: str) -> Iterator[str]:
    """Faults of code in a sentence: `ifmdm x`, `x | y` for one of them, `data ls` for `ifmdm data ls`, `--option`."""
    words = code.replace("[", " ").replace("]", " ").split()
    if not words:
        return
    if words[0].startswith("--"):
        if (name := re.match(r"--[\w-]+", words[0])) and name[0] not in option_names():
            yield f"no command has the option {name[0]}"
        return
    if (
        words[0] in ("data", "train", "model", "jobs")
        and len(words) > 1
        and re.fullmatch(r"[a-z-]+", words[1])
    ):
        words = ["ifmdm", *words]
    if words[0] not in ("ifmdm", "make", "python", "pip"):
        return
    first, *others = " ".join(words).split(" | ")
    variants = [first, *(" ".join([*first.split()[:-1], other]) for other in others)]
    try:
        for variant in variants:
            for _, given in commands(variant.replace("|", "\\|")):
                if said := fault(given, whole=False):
                    yield said
    except ValueError as error:
        yield str(error)


def _test_faults(name: str, document: Document) -> Iterator[str]:
    path, sign, test = name.partition("::")
    if not re.fullmatch(r"tests/(?:\w+/)*test_\w+\.py", path) or not (ROOT / path).is_file():
        yield f"there is no test file {path}"
        return
    source = (ROOT / path).read_text()
    tests = {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
    if sign and not (test.startswith("test_") and test in tests):
        yield f"{path} has no test {test!r}"
    if Path(document.name).name not in source:
        yield f"{path} never reads {document.name}"


@functools.cache
def _variables() -> frozenset[str]:
    """Environment variables that the sources name."""
    found: set[str] = set()
    for room in OURS[:-1]:  # without tests
        for path in (ROOT / room).rglob("*"):
            if path.suffix in (".py", ".sh", ".yaml", ".yml") or path.name.startswith("Dockerfile"):
                found.update(_ENV.findall(path.read_text()))
    return frozenset(found)


def every_fault(document: Document) -> list[str]:
    """All of them."""
    return [
        *command_faults(document),
        *mark_faults(document),
        *link_faults(document),
        *name_faults(document),
    ]
