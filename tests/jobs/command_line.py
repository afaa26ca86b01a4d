"""Runs `ifmdm jobs …` in the test's own process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from infra import cli
from tests.jobs.small_store import SmallStore


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def values(self) -> Any:
        """What --json printed."""
        return json.loads(self.out)


class Commands:
    """`ifmdm jobs` over one store. A call that does not say how it may end must end well.

    Args:
        capsys: pytest's.
    """

    def __init__(self, small: SmallStore, capsys: pytest.CaptureFixture[str]) -> None:
        self._root, self._capsys = str(small.storage.root), capsys

    def __call__(self, *words: str, code: int = 0) -> Said:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main(["jobs", words[0], "--root", self._root, *words[1:]])
        out, err = self._capsys.readouterr()
        assert end.value.code == code, err
        return Said(code, out, err)

    def json(self, *words: str, code: int = 0) -> Any:
        """What it prints with --json."""
        return self(*words, "--json", code=code).values
