"""What a worker keeps in mind of the attempts it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jobs import entries
from jobs.heartbeat import read_beat
from jobs.names import Marker
from jobs.store import JobStore
from jobs.worker import Worker
from tests.jobs.small_store import SmallStore


def test_an_old_attempt_that_ends_hides_no_new_one_at_the_same_job(tmp_path: Path) -> None:
    small = SmallStore(tmp_path)
    ref = small.submit("a")
    runs: list[Callable[[], None]] = []
    worker = Worker(
        JobStore(small.storage, "w1", small.clock), small.places, small.renderer, slots=2, spawn=runs.append
    )
    named = []

    def idle() -> None:
        view = small.view(ref)
        if view.seq == 1:  # given back in its name while its first attempt still goes on
            after = entries.released(view.state, 0, {}, small.clock.now())
            assert JobStore(small.storage, "w1", small.clock).append(ref, 2, "released", after)
            small.storage.put(Marker(after.rank, ref, 2).key, b"")
        elif len(runs) == 2 and not named:
            runs[0]()
            worker.beat()
            beat = read_beat(small.storage, "w1")
            named.append(beat is not None and beat.of(ref, 3) is not None)
            runs[1]()
            worker.leaving = True

    small.clock.on_sleep = idle
    worker.work()
    assert named == [True]
    assert small.kinds(ref) == ["claimed", "released", "claimed", "done", "published"]
    assert worker.jobs == {}
