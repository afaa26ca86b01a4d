"""`ifmdm up && ifmdm down`, three times: the demo in one, Ray's head killed in one, S3 in one. See stack_cycles.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.stack_cycles import LIGHT, Cycles
from tests.docs.documents import read
from tests.docs.shell import commands

GUIDE = "docs/operations.md"


def typed(holding: str) -> list[list[str]]:
    """The commands of the guide's block that has that line."""
    (block,) = (block for block in read(GUIDE).blocks if f"{holding} " in block.text)
    return [words for _, words in commands(block.text)]


@pytest.fixture
def cycles(tmp_path: Path) -> Iterator[Cycles]:
    made = Cycles(tmp_path)
    yield made
    made.close()


def test_a_stack_as_the_guide_has_it(cycles: Cycles) -> None:
    assert typed("ifmdm up") == [["ifmdm", "up"], ["ifmdm", "status"], ["ifmdm", "down"]]  # what a cycle does

    def meanwhile() -> None:
        for words in typed("ifmdm demo render"):
            assert cycles.ifmdm(*words[1:]).returncode == 0
        done = cycles.ifmdm("demo").stdout
        assert "/studio" in done
        assert " GB " in done
        assert "ifmdm down" in done

    seen = cycles.run(0, "plain", meanwhile)
    assert seen.processes > 5
    assert seen.ports > 5
    videos = [cycles.home / "bucket/out/calm.mp4", cycles.home / "bucket/out/lively.mp4"]
    assert all(video.stat().st_size > 10_000 for video in [*videos, cycles.home.parent / "out/demo.mp4"])


@pytest.mark.parametrize("kind", ["head killed, down", "s3"])
def test_nothing_is_left(cycles: Cycles, kind: str, tiny_bundle: Path) -> None:
    cycles.options = [*LIGHT, "--set", f"model={tiny_bundle}"]
    cycles.run(0, kind)
