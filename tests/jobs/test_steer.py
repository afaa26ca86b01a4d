"""Cancel, suspend, resume, retry, reprioritize: what each does in each state, twice, and while others act too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput, Conflict, Forbidden, NotFound
from ifmdm_core.storage import FolderStorage
from ifmdm_core.uri import Uri
from jobs import steer
from jobs.names import JobRef, Marker
from jobs.rendering.contract import Task
from jobs.scheduler import Scheduler
from jobs.store import JobStore, JobView
from jobs.sweeper import Sweeper
from tests.jobs.small_store import SmallStore


@pytest.fixture(params=["folder", "s3"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> SmallStore:
    if request.param == "folder":
        return SmallStore(tmp_path / "store")
    return SmallStore(f"s3://renders/{tmp_path.name}", request.getfixturevalue("s3_config"))


@pytest.fixture
def disk(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


def cancel(store: JobStore, ref: JobRef) -> JobView:
    return steer.stop(store, ref, "cancel")


def suspend(store: JobStore, ref: JobRef) -> JobView:
    return steer.stop(store, ref, "suspend")


def first(store: JobStore, ref: JobRef) -> JobView:
    return steer.reprioritise(store, ref, 7)


def in_state(small: SmallStore, state: str) -> JobRef:
    """A job that has come to be in that state."""
    ref = small.submit("a")
    if state == "queued":
        return ref
    if state == "running":
        assert Scheduler(small.worker().store).next(alone=True) is not None
    elif state == "published":
        small.work()
    elif state == "failed":
        small.renderer.faults = lambda task: BadInput("no face")
        small.work()
    elif state == "cancelled":
        cancel(small.store, ref)
    elif state == "suspended":
        suspend(small.store, ref)
    assert small.state(ref) == state
    return ref


def test_a_waiting_job_is_cancelled_and_never_rendered(small: SmallStore) -> None:
    ref = small.submit("a")
    assert cancel(small.store, ref).state.state == "cancelled"
    small.work()
    assert small.kinds(ref) == ["cancelled"]
    assert small.keys("queue/") == small.keys("running/") == small.keys("out/") == []
    assert [key.split("/")[3] for key in small.keys("ended/")] == ["cancelled"]


def test_suspended_then_resumed_it_is_rendered(small: SmallStore) -> None:
    ref = small.submit("a")
    assert suspend(small.store, ref).state.state == "suspended"
    small.work()
    assert small.state(ref) == "suspended"
    assert steer.resume(small.store, ref).state.state == "queued"
    small.work()
    assert small.state(ref) == "published"
    assert small.keys("queue/") == []


def test_a_failed_job_is_retried_with_a_clean_slate(small: SmallStore) -> None:
    ref = in_state(small, "failed")
    assert len(small.keys("ended/")) == 1
    small.renderer.faults = lambda task: None
    after = steer.retry(small.store, ref)
    assert (after.state.state, after.state.attempts, after.state.fault) == ("queued", 0, None)
    assert small.keys("ended/") == []  # it has not
    small.work()
    assert small.state(ref) == "published"


def test_priority_changes_who_is_first_but_not_the_age(disk: SmallStore) -> None:
    old, young = disk.submit("a"), disk.submit("b")
    before = disk.view(young).state
    after = first(disk.store, young).state
    assert (after.priority, after.queued_at) == (7, before.queued_at)
    markers = [Marker.parse(key) for key in disk.keys("queue/")]
    assert [marker.job for marker in markers if marker is not None] == [young, old]
    disk.work()
    assert disk.state(young) == disk.state(old) == "published"


@pytest.mark.parametrize(
    ("state", "possible"),
    [
        ("queued", {cancel, suspend, first, steer.resume, steer.retry}),
        ("running", {cancel, suspend, steer.resume, steer.retry}),
        ("published", set()),
        ("failed", {steer.retry}),
        ("cancelled", {cancel, steer.retry}),
        ("suspended", {cancel, suspend, steer.resume}),
    ],
)
def test_each_state_allows_what_it_allows_and_says_so(
    disk: SmallStore, state: str, possible: set[Callable[[JobStore, JobRef], JobView]]
) -> None:
    for do in (cancel, suspend, first, steer.resume, steer.retry):
        small = SmallStore(Path(disk.storage.root.path) / getattr(do, "__name__", "do"))
        ref = in_state(small, state)
        if do in possible:
            do(small.store, ref)
            do(small.store, ref)  # asking twice is asking once
            continue
        with pytest.raises(Conflict, match=f"is {state} and cannot be .*; it") as told:
            do(small.store, ref)
        assert ref.id in told.value.what


def test_a_running_job_stops_at_its_next_look(small: SmallStore) -> None:
    ref = small.submit("a")

    def user(task: Task) -> None:
        if small.state(ref) == "running" and small.clock.passed < 5:
            assert cancel(small.store, ref).state.state == "running"
        small.clock.passed += 6  # longer than the worker waits between two looks

    small.renderer.between = user
    small.work()
    assert small.kinds(ref) == ["claimed", "cancelled"]
    assert small.keys("out/") == []


@pytest.mark.parametrize(("how", "ends"), [("cancel", "cancelled"), ("suspend", "suspended")])
def test_a_stop_outlives_the_worker_that_should_have_seen_it(disk: SmallStore, how: str, ends: str) -> None:
    ref = in_state(disk, "running")
    steer.stop(disk.store, ref, how)  # type: ignore[arg-type]
    disk.grow_older(61, "workers/")
    assert Sweeper(disk.store, disk.places).sweep().lost == 1
    disk.work()
    assert disk.kinds(ref) == ["claimed", "lost", ends]


def test_who_cannot_write_logs_is_served_by_the_next_worker(tmp_path: Path) -> None:
    class NoLogs(FolderStorage):
        def put_if_absent(self, key: str, data: bytes) -> bool:
            if "/log/" in key:
                raise Forbidden(f"{key} is refused")
            return super().put_if_absent(key, data)

    small = SmallStore(tmp_path)
    user = JobStore(NoLogs(Uri.parse(tmp_path)), "bob", small.clock)
    waiting, held, broken = small.submit("a"), small.submit("b"), small.submit("c")
    suspend(small.store, held)
    small.renderer.faults = lambda task: BadInput("no face") if task.id == broken.id else None
    small.work()
    small.renderer.faults = lambda task: None
    waiting = small.submit("d")
    assert cancel(user, waiting).state.state == "queued"
    assert cancel(user, waiting).state.state == "queued"
    assert steer.resume(user, held).state.state == "suspended"
    assert steer.retry(user, broken).state.state == "failed"
    with pytest.raises(Conflict, match="bob asked for how 'cancel' already"):
        suspend(user, waiting)
    small.work()
    assert [small.state(ref) for ref in (waiting, held, broken)] == ["cancelled", "published", "published"]
    assert small.keys("queue/") == []


def test_what_is_claimed_under_the_users_eyes_is_stopped_all_the_same(tmp_path: Path) -> None:
    class Meddled(FolderStorage):
        meddle: Callable[[], object] | None = None

        def put_if_absent(self, key: str, data: bytes) -> bool:
            if "/wishes/" in key and self.meddle is not None:
                meddle, self.meddle = self.meddle, None
                meddle()
            return super().put_if_absent(key, data)

    small = SmallStore(tmp_path)
    ref = small.submit("a")
    storage = Meddled(Uri.parse(tmp_path))
    storage.meddle = lambda: Scheduler(small.worker().store).next(alone=True)
    after = cancel(JobStore(storage, "bob", small.clock), ref)
    assert after.state.state == "running"
    assert after.wished("stop")


def test_what_is_not_there_is_not_found(disk: SmallStore) -> None:
    with pytest.raises(NotFound):
        cancel(disk.store, JobRef("default", "0" * 32))


def test_a_job_whose_deadline_has_passed_is_not_retried(disk: SmallStore) -> None:
    ref = disk.submit("a", deadline=disk.clock.now() + 60)
    disk.clock.passed += 61
    disk.work()
    assert disk.state(ref) == "expired"
    with pytest.raises(Conflict, match="has passed; submit it with another"):
        steer.retry(disk.store, ref)


def test_priorities_beyond_the_range_are_refused(disk: SmallStore) -> None:
    with pytest.raises(BadInput, match="from -1000 to 1000"):
        steer.reprioritise(disk.store, disk.submit("a"), 1001)


@pytest.mark.parametrize("ends", ["looks", "leaves"])
def test_a_wish_that_a_claim_just_missed_is_seen_by_its_worker_or_the_next(
    disk: SmallStore, ends: str
) -> None:
    """Its user may write no logs, and so cannot know of the claim either."""
    ref = disk.submit("a")
    worker = disk.worker()

    def between(task: Task) -> None:
        disk.store.wish(
            ref, 0, "stop", {"how": "suspend"}
        )  # written before the claim, after its claimant had looked
        if ends == "looks":
            disk.clock.passed += 6
        worker.leaving = True

    disk.renderer.between = between
    if ends == "looks":
        disk.work()
        assert disk.kinds(ref) == ["claimed", "suspended"]
    else:
        worker.work()
        disk.work()
        assert disk.kinds(ref) == ["claimed", "released", "suspended"]
