"""Every reason that a job can have to wait is said, with what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput, NotFound, Unavailable
from ifmdm_core.storage import S3Config, open_storage
from jobs import entries, steer
from jobs.gc import DAY_S, collect
from jobs.heartbeat import Progress
from jobs.names import JobRef, tenant_key
from jobs.scheduler import Scheduler
from jobs.why import why
from jobs.worker import Worker
from tests.fault_proxy import FaultProxy, Strip
from tests.jobs.command_line import Commands
from tests.jobs.small_store import SmallStore
from tests.jobs.test_fsck import done_but_not_published


@pytest.fixture
def small(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


def told(small: SmallStore, ref: JobRef) -> str:
    return "\n".join(map(str, why(small.store, ref)))


def alive(small: SmallStore, name: str = "busy") -> Worker:
    """A worker that has just shown a sign of life."""
    worker = small.worker(name)
    worker.beat()
    return worker


def test_nobody_works(small: SmallStore) -> None:
    assert told(small, small.submit("a")).startswith("no worker is alive; ifmdm jobs work starts one")


def test_the_place_in_the_queue(small: SmallStore) -> None:
    first, second = small.submit("a"), small.submit("b")
    small.work()
    third, fourth = small.submit("c"), small.submit("d")
    alive(small)
    assert "it is next of its tenant; 1 of 1 slots are free, at 1 workers" in told(small, third)
    assert "1 job of its tenant goes first" in told(small, fourth)
    assert "by the last hour's pace" in told(small, fourth)
    assert "it is published since" in told(small, first)
    assert "it is published since" in told(small, second)


def test_a_time_to_come(small: SmallStore) -> None:
    ref = small.submit("a", not_before=small.clock.now() + 3600)
    assert told(small, ref).startswith("it is not to be started before 20")
    assert "marker" not in told(small, ref)


def test_a_pause_after_a_fault(small: SmallStore) -> None:
    ref = small.submit("a")
    small.renderer.faults = lambda task: Unavailable("a stage is away", fix="start it")
    began = small.clock.passed
    small.work()
    small.clock.passed = began + 20
    assert told(small, ref).startswith("its time has come")
    small.clock.passed = began
    assert "attempt 1 failed (a stage is away); it is tried again at 20" in told(small, ref)


def test_the_tenants_cap(small: SmallStore) -> None:
    small.let_in("default", cap=1)
    running, waiting = small.submit("a"), small.submit("b")
    assert Scheduler(alive(small).store).next(alone=True) is not None
    assert "may run 1 at once: 1 of its jobs run; cap in tenants/default.json" in told(small, waiting)
    small.let_in("default", cap=0)
    assert "the operator holds all of its jobs back" in told(small, waiting)
    assert "begun" in told(small, running)


def test_a_tenant_that_is_not_known_any_more(small: SmallStore) -> None:
    ref = small.submit("a")
    small.storage.delete(tenant_key("default"))
    assert "nothing of tenant 'default' is started: tenant 'default' is not known" in told(small, ref)
    small.storage.put(tenant_key("default"), b"{")
    assert "is not JSON" in told(small, ref)


def test_free_workers_that_do_not_take_it(small: SmallStore) -> None:
    ref = small.submit("a")
    alive(small)
    assert "model" not in told(small, ref)
    small.clock.passed += 61
    assert "none may be able to render with model 'demo' (6445358bffac)" in told(small, ref)


def test_a_job_that_must_run_alone(small: SmallStore) -> None:
    ref, other = small.submit("a"), small.submit("b")
    claim = Scheduler(small.worker("gone").store).next(alone=True)
    assert claim is not None
    small.store.append(claim.ref, 2, "lost", entries.lost(claim.state, 0, small.clock.now()))
    alone, other = (ref, other) if claim.ref == ref else (other, ref)
    worker = alive(small)
    worker.jobs[other] = Progress(1)
    worker.beat()
    assert "it must run alone" in told(small, alone)
    assert "has no marker in the queue; ifmdm jobs fsck --repair" in told(small, alone)


def test_how_far_a_running_job_is(small: SmallStore) -> None:
    ref = small.submit("a")
    worker = small.worker("busy")
    running = Scheduler(worker.store).next(alone=True)
    assert running is not None
    worker.jobs[ref] = progress = Progress(running.seq)
    progress.step(10, 40)
    small.clock.passed += 5
    worker.beat()
    assert "it runs at busy: 10 of 40 frames, about 15 s more" in told(small, ref)
    steer.stop(small.store, ref, "cancel")
    assert told(small, ref).startswith("it has been asked to stop")
    small.grow_older(61, "workers/")
    assert "busy has shown no sign of life" in told(small, ref)


def test_states_that_rest(small: SmallStore) -> None:
    held, failed = small.submit("a"), small.submit("b")
    steer.stop(small.store, held, "suspend")
    small.renderer.faults = lambda task: BadInput("no face", fix="another photo")
    small.work()
    assert "it is suspended since" in told(small, held)
    assert "by ann@desk; ifmdm jobs resume" in told(small, held)
    assert ": no face; another photo" in told(small, failed)
    small.grow_older(8 * DAY_S)
    collect(small.store, dry_run=False)
    assert "only its record is kept" in told(small, failed)


def test_a_video_on_its_way_out(small: SmallStore) -> None:
    assert "is being published" in told(small, done_but_not_published(small))


def test_a_submit_that_died(small: SmallStore) -> None:
    ref = small.submit("a")
    small.storage.delete(ref.spec)
    assert "its submit died before the job was whole; submit it again" in told(small, ref)
    with pytest.raises(NotFound):
        why(small.store, JobRef("default", "0" * 32))


def test_a_damaged_log(small: SmallStore) -> None:
    ref = small.submit("a")
    small.work()
    small.storage.delete(ref.log(2))
    assert "is never claimed" in told(small, ref)
    assert "has a gap" in told(small, ref)


def test_a_deadline_that_has_passed_and_a_wish(small: SmallStore) -> None:
    ref = small.submit("a", deadline=small.clock.now() + 60)
    small.store.wish(ref, 0, "stop", {"how": "cancel"})
    small.clock.passed += 61
    assert "it has been asked to stop; that is done when a worker meets it" in told(small, ref)
    assert "its deadline" in told(small, ref)


def test_a_store_that_no_worker_would_take(flaky_s3: FaultProxy, s3_config: S3Config, tmp_path: Path) -> None:
    root = f"s3://renders/{tmp_path.name}"
    small = SmallStore(root, s3_config, storage=open_storage(root, flaky_s3.config))
    ref = small.submit("a")
    flaky_s3.add(Strip())
    assert "no worker would start: " in told(small, ref)


def test_the_command(small: SmallStore, capsys: pytest.CaptureFixture[str]) -> None:
    jobs, ref = Commands(small, capsys), small.submit("a")
    assert jobs("why", ref.id[:6]).out.splitlines()[:2] == [
        "no worker is alive",
        "  -> ifmdm jobs work starts one",
    ]
    assert jobs.json("why", ref.id)[0] == {"what": "no worker is alive", "fix": "ifmdm jobs work starts one"}
