"""`ifmdm up && ifmdm down` three times, once with Ray's head killed: see stack_cycles.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.stack_cycles import CYCLES, LIGHT, Cycles


@pytest.fixture(scope="module")
def cycles(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Iterator[Cycles]:
    made = Cycles(tmp_path_factory.mktemp("stack"), [*LIGHT, "--set", f"model={tiny_bundle}"])
    yield made
    made.close()


@pytest.mark.parametrize("number", range(3))
def test_nothing_is_left(cycles: Cycles, number: int) -> None:
    seen = cycles.run(number, CYCLES[number])
    assert seen.processes > 5
    assert seen.ports > 5
