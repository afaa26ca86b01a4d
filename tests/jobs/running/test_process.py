"""A worker with its threads: jobs side by side, given back when it leaves, and loops that outlive their faults."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ifmdm_core.storage import open_storage
from jobs.heartbeat import read_beat
from jobs.names import heartbeat
from jobs.rendering.contract import Renderer, Task
from jobs.running.process import WorkerProcess
from tests.jobs.instant import FRAMES, VIDEO, InstantRenderer
from tests.jobs.small_store import SmallStore


@pytest.fixture
def small(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


def _process(small: SmallStore, renderer: Renderer, slots: int = 2) -> WorkerProcess:
    return WorkerProcess(
        small.storage, small.places, renderer, name="desk.1", slots=slots, host="desk", takeover_s=1.2
    )


@contextmanager
def _running(process: WorkerProcess, *errands: Callable[[], object]) -> Iterator[None]:
    thread = threading.Thread(target=process.run, args=(errands,))
    thread.start()
    try:
        yield
    finally:
        process.leave()
        thread.join(60)
        assert not thread.is_alive()


def _until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_jobs_run_side_by_side_and_are_published(small: SmallStore) -> None:
    both = threading.Barrier(2, timeout=60)
    refs = [small.submit(name) for name in ("a", "b")]
    with _running(_process(small, InstantRenderer(lambda task, report: both.wait() and None))):
        _until(lambda: all(small.store.view(ref).state.state == "published" for ref in refs))
    assert [small.storage.get(f"out/{name}.mp4") for name in ("a", "b")] == [VIDEO, VIDEO]
    assert not list(small.storage.list("running/"))
    assert small.storage.info(heartbeat("desk.1")) is None  # signed off


def test_a_worker_that_leaves_gives_its_job_back_for_no_fault_of_the_jobs(small: SmallStore) -> None:
    ref, begun = small.submit("a"), threading.Event()

    def for_ever(task: Task, report: Callable[[], None]) -> None:
        begun.set()
        while True:
            report()
            time.sleep(0.05)

    with _running(_process(small, InstantRenderer(for_ever))):
        assert begun.wait(60)
    state = small.store.view(ref).state
    assert (state.state, state.attempts, state.losses) == ("queued", 0, 0)
    assert [item.key.split("/")[0] for item in small.storage.list("queue/")] == ["queue"]


def test_a_heartbeat_says_how_far_jobs_are_and_how_long_it_may_be_silent(small: SmallStore) -> None:
    ref, gate = small.submit("a"), threading.Event()
    with _running(_process(small, InstantRenderer(lambda task, report: gate.wait(60) and None))):
        _until(
            lambda: (beat := read_beat(small.storage, "desk.1")) is not None and beat.of(ref, 1) is not None
        )
        beat = read_beat(small.storage, "desk.1")
        assert beat is not None
        job = beat.of(ref, 1)
        assert job is not None
        assert (beat.takeover_s, beat.slots, job.frames, job.total) == (1.2, 2, 0, FRAMES)
        _until(lambda: (b := read_beat(small.storage, "desk.1")) and (j := b.of(ref, 1)) and j.still_s > 0.5)
        gate.set()


def test_errands_go_on_whatever_one_of_them_meets(small: SmallStore) -> None:
    done: list[float] = []

    def fails() -> None:
        raise RuntimeError("no errand of mine")

    with _running(_process(small, InstantRenderer()), fails, lambda: done.append(time.monotonic())):
        _until(lambda: len(done) >= 2)


def test_a_loop_that_fails_is_begun_again(small: SmallStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs.running import process as module

    monkeypatch.setattr(module, "FAULT_PAUSE_S", 0.05)
    process, beats = _process(small, InstantRenderer()), list[str]()
    beat = process.worker.beat

    def fails_once() -> None:
        if threading.current_thread().name == "heartbeat":
            beats.append("beat")
            if len(beats) == 1:
                raise RuntimeError("a bug")
        beat()

    monkeypatch.setattr(process.worker, "beat", fails_once)
    with _running(process):
        _until(lambda: len(beats) > 2)


def test_workers_of_another_process_take_over_what_a_silent_one_left(
    small: SmallStore, tmp_path: Path
) -> None:
    """The first is as good as dead: it neither renders nor beats any more, though nobody told it to leave."""
    ref, gate = small.submit("a"), threading.Event()
    first = _process(small, InstantRenderer(lambda task, report: gate.wait(60) and None), slots=1)
    first.worker.beat_on = lambda over: None  # type: ignore[method-assign]
    second = WorkerProcess(
        open_storage(tmp_path / "store"), small.places, InstantRenderer(), name="desk.2", takeover_s=1.2
    )
    with _running(first):
        _until(lambda: small.store.view(ref).state.state == "running")
        with _running(second):
            _until(lambda: small.store.view(ref).state.state == "published")
        gate.set()
        _until(lambda: not first.worker.jobs)
    kinds = [entry.kind for entry in small.store.log(ref)]
    assert kinds == ["claimed", "lost", "claimed", "done", "published"]
    assert small.store.entry(ref, 3).by == "desk.2"
