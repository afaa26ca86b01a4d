"""Bundles whose networks are in this process: few, and none twice."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ifmdm_core.provenance import sha256_of_file
from jobs.rendering.bundles import LocalBundles
from serve.config import ServeConfig


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IFMDM_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def three(
    make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[str, str]]:
    """URI and digest of three bundles."""
    folder = tmp_path_factory.mktemp("three")
    made = [make_bundle(folder / str(seed), seed=seed) for seed in range(3)]
    return [(str(path), sha256_of_file(path / "bundle.json")) for path in made]


@pytest.mark.usefixtures("cache")
def test_two_are_kept_and_none_is_dropped_while_it_is_used(
    config: ServeConfig, three: list[tuple[str, str]]
) -> None:
    bundles = LocalBundles(config)
    a, b, c = three

    async def stages_of(bundle: tuple[str, str]) -> int:
        async with bundles.lease(*bundle) as stages:
            assert stages.facts.digest == bundle[1]
            return id(stages)

    async def run() -> None:
        first, again = await asyncio.gather(stages_of(a), stages_of(a))
        assert first == again
        async with bundles.lease(*a) as held:
            await stages_of(b)
            await stages_of(c)
            assert set(bundles._held) == {a[1], c[1]}
            async with bundles.lease(*c):
                await stages_of(b)
                assert set(bundles._held) == {a[1], b[1], c[1]}, "all are in use"
            assert await stages_of(a) == id(held)
        await stages_of(b)
        await bundles.close()

    asyncio.run(run())


def test_what_others_import_of_this_package_needs_no_media_and_no_networks() -> None:
    code = (
        "import sys, jobs.rendering.contract, jobs.rendering.metrics, jobs.rendering.file_kinds\n"
        "heavy = {'numpy', 'torch', 'pyarrow', 'ray', 'av', 'serve', 'boto3'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
