"""docs/threat-model.md: every threat names tests that exist, or says openly that there is none."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
OPEN = ("not mitigated: ", "not tested: ")
AREAS = (
    "consent", "deny-list", "playlist", "pickle", "callback", "token", "WebSocket", "signed link", "dropped file",
    "MLflow", "Ray's ports", "Kubernetes", "package", "stripped", "starve", "audit log", "poisoned",
)  # fmt: skip


def threats() -> list[tuple[str, str]]:
    """(threat, what shows it) of every table."""
    found, inside = [], False
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if cells and cells[0] == "threat":
            inside = True
        elif not cells:
            inside = False
        elif inside and set(cells[0]) != {"-", " "} and not set(cells[0]) <= {"-"}:
            assert len(cells) == 3, line
            found.append((cells[0], cells[2]))
    return found


@functools.cache
def names_in(path: Path) -> frozenset[str]:
    """Names of the tests in a module, also of those in classes."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize(("threat", "shown"), threats(), ids=[threat[:60] for threat, _ in threats()])
def test_a_threat_has_a_test_or_says_that_it_has_none(threat: str, shown: str) -> None:
    if shown.startswith(OPEN):
        assert len(shown.partition(": ")[2]) > 10, "say why, or what helps"
        return
    for name in shown.split():
        path, _, test = name.partition("::")
        assert path.startswith("tests/"), name
        assert (ROOT / path).is_file(), f"{path} is not there"
        assert not test or test in names_in(ROOT / path), f"{path} has no {test}"


def test_every_area_is_there() -> None:
    assert len(threats()) > 50
    missing = [area for area in AREAS if area.lower() not in PAGE.lower()]
    assert not missing
