"""A render that is stopped: wherever it is, it stops at once, says why, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.rendering import loop_thread
from jobs.rendering.bundles import LocalBundles
from jobs.rendering.contract import Halt, spent
from jobs.rendering.renderer import FlowRenderer
from serve.config import ServeConfig
from serve.flow import DECODING
from tests.jobs.rendering.places import Place, Reports, WatchedBundles


class Stop(Halt):
    """Somebody's own kind of Halt."""


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def left_in(scratch: Path) -> list[str]:
    """What a render has left; a decoder that goes on living has a folder of its own."""
    return [path.name for path in scratch.iterdir() if not path.name.startswith("ifmdm-intake-")]


@pytest.mark.parametrize(
    ("stop", "frames"),
    [
        (lambda done, total: True, 0),
        (lambda done, total: total > 0, 0),
        (lambda done, total: done > 0, 8),
        (lambda done, total: done >= 40, 40),
        (lambda done, total: done == total > 0, 100),
    ],
    ids=["first report", "length known", "first chunk", "in the middle", "last chunk"],
)
def test_halt_comes_out_and_no_stage_is_called_any_more(
    renderer: FlowRenderer,
    bundles: WatchedBundles,
    place: Place,
    photo: bytes,
    speech: bytes,
    scratch: Path,
    stop: Callable[[int, int], bool],
    frames: int,
) -> None:
    task, error = place.task(photo, speech), Stop("not wanted")
    with pytest.raises(Stop) as caught, renderer.render(task, Reports(stop, error)):
        pass
    assert caught.value is error
    assert (bundles.under_way, bundles.leases) == (0, 0)
    begun = dict(bundles.begun)
    assert begun["decode"] <= -(-frames // 8) + DECODING
    assert left_in(scratch) == []
    assert place.log(task)[-1]["event"] == "halted"
    metrics = place.metrics(task)
    assert (metrics["outcome"], metrics["frames_decoded"]) == ("halted", frames)
    assert spent(error)["decoder"] == pytest.approx(metrics["stages"]["decoder"]["busy_s"])
    assert bundles.begun == begun


@pytest.mark.parametrize("name", ["encode", "sample", "identify", "decode"])
def test_a_stage_that_does_not_answer_does_not_keep_anybody_from_stopping(
    renderer: FlowRenderer,
    bundles: WatchedBundles,
    place: Place,
    photo: bytes,
    speech: bytes,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(loop_thread, "TICK_S", 0.02)

    async def stuck(called: str) -> None:
        if called == name:
            await asyncio.Event().wait()

    bundles.gate = stuck
    hangs = Reports(lambda done, total: bundles.begun[name] > 0, Stop())
    with pytest.raises(Stop), renderer.render(place.task(photo, speech), hangs):
        pass
    assert (bundles.under_way, bundles.leases) == (0, 0)


def test_after_a_halt_the_same_renderer_goes_on(
    renderer: FlowRenderer, place: Place, photo: bytes, speech: bytes
) -> None:
    with (
        pytest.raises(Stop),
        renderer.render(place.task(photo, speech), Reports(lambda done, total: done > 0, Stop())),
    ):
        pass
    with renderer.render(place.task(photo, speech), Reports()) as rendered:
        assert rendered.frames_decoded == 100


def test_an_error_of_whoever_uses_the_file_is_no_error_of_the_render(
    renderer: FlowRenderer, place: Place, photo: bytes, speech: bytes, scratch: Path
) -> None:
    task = place.task(photo, speech)
    with pytest.raises(Stop), renderer.render(task, Reports()):
        raise Stop
    assert left_in(scratch) == []
    assert place.metrics(task)["outcome"] == "rendered"


def test_a_closed_renderer_leaves_no_threads_and_no_processes(
    config: ServeConfig, place: Place, photo: bytes, speech: bytes
) -> None:
    before = set(threading.enumerate())
    renderer = FlowRenderer(config, WatchedBundles(LocalBundles(config)))
    with (
        pytest.raises(Stop),
        renderer.render(place.task(photo, speech), Reports(lambda done, total: done > 0, Stop())),
    ):
        pass
    renderer.close()
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not [name for name in left if name.startswith(("rendering", "asyncio", "intake"))]
