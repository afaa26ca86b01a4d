"""What is removed when, that it may die or meet others at any step, and what it never touches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ifmdm_core.errors import BadInput, Conflict, NotFound, Unavailable
from ifmdm_core.storage import Storage
from jobs import entries, steer
from jobs.entries import Video
from jobs.gc import DAY_S, Collector, Freed, collect
from jobs.names import JobRef, Webhook
from jobs.scheduler import Scheduler
from jobs.store import JobStore
from tests.jobs.small_store import SmallStore


class Stepwise:
    """A store with something happening before its n-th write or removal."""

    def __init__(self, storage: Storage, step: int, happens: Callable[[], object]) -> None:
        self._storage, self._left, self._happens = storage, step, happens

    def __getattr__(self, name: str) -> Any:
        if name in ("put", "put_if_absent", "delete", "delete_if"):
            self._left -= 1
            if self._left == 0:
                self._happens()
        return getattr(self._storage, name)

    @property
    def reached(self) -> bool:
        return self._left <= 0


class Killed(Exception):
    """The process is gone."""


def kill() -> None:
    raise Killed


@pytest.fixture(params=["folder", "s3"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> SmallStore:
    if request.param == "folder":
        return SmallStore(tmp_path / "store")
    return SmallStore(f"s3://renders/{tmp_path.name}", request.getfixturevalue("s3_config"))


@pytest.fixture
def disk(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


def gc(small: SmallStore, **options: Any) -> Freed:
    freed = collect(small.store, **{"dry_run": False, **options})
    assert freed.problems == []
    return freed


def gc_over(storage: Any, small: SmallStore) -> None:
    collect(JobStore(storage, "gc", small.clock), dry_run=False)


def an_old_job(small: SmallStore) -> JobRef:
    """Published eight days ago."""
    ref = small.submit("a")
    small.work()
    small.grow_older(8 * DAY_S)
    return ref


def a_record(small: SmallStore) -> JobRef:
    """Of a job published a hundred days ago."""
    ref = an_old_job(small)
    gc(small)
    small.grow_older(92 * DAY_S)
    for key in small.keys("kept/"):  # its day is part of its name
        small.storage.put(key.replace(key.split("/")[2], "20200101"), small.storage.get(key))
        small.storage.delete(key)
    return ref


def test_a_dry_run_counts_and_removes_nothing(small: SmallStore) -> None:
    an_old_job(small)
    before = small.keys("")
    would = gc(small, dry_run=True)
    assert small.keys("") == before
    did = gc(small)
    assert (would.jobs, would.records) == (did.jobs, did.records) == (1, 0)
    assert 0 < would.bytes <= did.bytes
    assert would.objects <= did.objects


def test_an_ended_job_shrinks_to_its_record(small: SmallStore) -> None:
    ref = an_old_job(small)
    young = small.submit("b")
    small.work()
    waiting = small.submit("c")
    gc(small)
    assert small.keys(ref.folder) == [ref.final, ref.spec]
    assert small.keys(f"attempts/{ref}") == []
    assert small.keys("out/") == ["out/a.mp4", "out/b.mp4"]  # those are the user's
    view = small.view(ref)
    assert (view.final, view.state.state, view.state.busy_s["decoder"]) == (True, "published", 2.5)
    assert len(small.keys("ended/")) == 1
    again = small.hand_in("a")
    assert (again.ref, again.created, again.state) == (ref, False, "published")
    with pytest.raises(Conflict, match="only its record is kept; submit it with --new"):
        steer.retry(small.store, ref)
    assert [entry.kind for entry in small.store.log(young)] == ["claimed", "done", "published"]
    assert small.state(waiting) == "queued"
    assert gc(small).objects == 0


def test_records_are_forgotten_and_the_job_can_be_submitted_anew(small: SmallStore) -> None:
    ref = a_record(small)
    freed = gc(small)
    assert (freed.jobs, freed.records) == (0, 1)
    for place in ("jobs/", "attempts/", "outputs/", "ended/", "kept/", "queue/", "running/"):
        assert small.keys(place) == [], place
    with pytest.raises(NotFound):
        small.view(ref)
    small.storage.delete("out/a.mp4")
    again = small.hand_in("a")
    assert (again.ref, again.created) == (ref, True)
    small.work()
    assert small.state(ref) == "published"


def test_what_has_not_ended_is_never_touched(disk: SmallStore) -> None:
    held = disk.submit("held")
    steer.stop(disk.store, held, "suspend")
    done = disk.submit("done")
    claim = Scheduler(disk.worker("gone").store).next(alone=True)
    assert claim is not None
    video = Video(epoch=1, key=f"{done.attempt(1)}/video.mp4", sha256="0" * 64, size=1, frames=1, fps=25)
    disk.storage.put(video.key, b"v")
    disk.store.append(done, 2, "done", entries.done(claim.state, video, {}, disk.clock.now()))
    later = disk.submit("later", not_before=disk.clock.now() + 3600)
    disk.grow_older(1000 * DAY_S)
    before = disk.keys("")
    gc(disk)
    gc(disk, everything=True)
    assert disk.keys("") == before
    assert [disk.state(ref) for ref in (held, done, later)] == ["suspended", "done", "queued"]


@pytest.mark.parametrize("make", [an_old_job, a_record])
def test_killed_at_any_step_it_leaves_nothing_behind(
    tmp_path: Path, make: Callable[[SmallStore], JobRef]
) -> None:
    step = 0
    while True:
        step += 1
        small = SmallStore(tmp_path / str(step))
        ref = make(small)
        storage = Stepwise(small.storage, step, kill)
        with contextlib.suppress(Killed):
            gc_over(storage, small)
        try:
            assert small.state(ref) == "published"  # and never one that waits
        except NotFound:
            assert make is a_record
        gc(small)
        assert small.keys(ref.folder) == ([ref.final, ref.spec] if make is an_old_job else [])
        assert small.keys("attempts/") == small.keys("ended/") == small.keys("running/") == []
        assert bool(small.keys("outputs/")) == bool(small.keys("kept/")) == (make is an_old_job)
        if not storage.reached:
            break
    assert step > 3


@pytest.mark.parametrize("make", [an_old_job, a_record])
def test_two_at_once_do_what_one_does(tmp_path: Path, make: Callable[[SmallStore], JobRef]) -> None:
    step = 0
    while True:
        step += 1
        small = SmallStore(tmp_path / str(step))
        ref = make(small)
        storage = Stepwise(small.storage, step, lambda small=small: gc(small))  # type: ignore[misc]
        gc_over(storage, small)
        gc(small)
        assert small.keys(ref.folder) == ([ref.final, ref.spec] if make is an_old_job else [])
        if not storage.reached:
            break


def test_a_retry_at_any_step_is_refused_or_rendered(tmp_path: Path) -> None:
    told: list[str] = []
    for step in range(1, 40):
        small = SmallStore(tmp_path / str(step))
        small.renderer.faults = lambda task: BadInput("no face")
        ref = an_old_job(small)
        small.renderer.faults = lambda task: None

        def retry(small: SmallStore = small, ref: JobRef = ref) -> None:
            try:
                steer.retry(small.store, ref)
                told.append("retried")
            except Conflict:
                told.append("refused")

        storage = Stepwise(small.storage, step, retry)
        gc_over(storage, small)
        if not storage.reached:
            break
        small.work()
        assert (told[-1], small.state(ref)) in (("retried", "published"), ("refused", "failed"))
    assert told[0] == "retried"
    assert "refused" in told


def test_submitted_again_at_any_step_it_is_known_refused_or_rendered(tmp_path: Path) -> None:
    told: list[str] = []
    for step in range(1, 40):
        small = SmallStore(tmp_path / str(step))
        ref = a_record(small)
        small.storage.delete("out/a.mp4")

        def submit(small: SmallStore = small) -> None:
            try:
                told.append("created" if small.hand_in("a").created else "known")
            except Unavailable:
                told.append("wait")

        storage = Stepwise(small.storage, step, submit)
        gc_over(storage, small)
        if not storage.reached:
            break
        small.work()
        if told[-1] == "created":
            assert small.state(ref) == "published"
            assert small.keys("out/") == ["out/a.mp4"]
    assert set(told) == {"known", "wait", "created"}


def test_an_output_handed_on_is_given_back_from_the_last_to_the_first(disk: SmallStore) -> None:
    first = a_record(disk)
    second = disk.submit("a", if_exists="overwrite")
    disk.work()
    gc(disk)
    assert disk.view(second).state.state == "published"
    assert len(disk.keys("outputs/")) == 2  # the first right stays while the second stands on it
    with pytest.raises(NotFound):
        disk.view(first)
    disk.grow_older(8 * DAY_S)
    gc(disk)
    disk.grow_older(92 * DAY_S)
    gc(disk, everything=True)
    gc(disk, everything=True)
    assert disk.keys("outputs/") == disk.keys("kept/") == disk.keys("jobs/") == []


def test_everything_finds_what_no_hint_leads_to(disk: SmallStore) -> None:
    ref = an_old_job(disk)
    for key in disk.keys("ended/"):
        disk.storage.delete(key)
    stray = f"attempts/default/{'0' * 32}/1/video.mp4"
    disk.storage.put(stray, b"of a job long forgotten")
    disk.grow_older(8 * DAY_S, "attempts/")
    assert gc(disk).objects == 0
    assert gc(disk, everything=True).jobs == 1
    assert disk.keys("attempts/") == []
    assert disk.view(ref).final


def test_a_hint_of_an_earlier_end_goes_and_the_job_stays(disk: SmallStore) -> None:
    disk.renderer.faults = lambda task: BadInput("no face")
    ref = an_old_job(disk)
    hint = disk.keys("ended/")[0]
    steer.retry(disk.store, ref)
    disk.storage.put(hint, b"")  # as if whoever retried had died
    disk.grow_older(8 * DAY_S, "ended/")
    gc(disk)
    assert disk.state(ref) == "queued"
    assert disk.keys("ended/") == []


def test_uploads_that_nobody_needs_any_more_go(disk: SmallStore) -> None:
    used, unused = f"uploads/default/{'a' * 64}.png", f"uploads/default/{'b' * 64}.png"
    for key in (used, unused):
        disk.storage.put(key, b"a picture")
    gone = disk.submit("a", portrait=disk.uri(unused))
    disk.work()
    disk.submit("b", portrait=disk.uri(used), not_before=disk.clock.now() + 3600)
    disk.grow_older(8 * DAY_S)
    young = f"uploads/default/{'c' * 64}.png"
    disk.storage.put(young, b"a picture")
    assert gc(disk).uploads == 0
    assert gc(disk, everything=True).uploads == 1
    assert disk.keys("uploads/") == [used, young]
    assert disk.view(gone).final


def test_uploads_stay_where_a_job_cannot_be_read(disk: SmallStore) -> None:
    disk.storage.put(f"uploads/default/{'a' * 64}.png", b"a picture")
    ref = disk.submit("a")
    disk.storage.put(ref.spec, b"{")
    disk.grow_older(8 * DAY_S)
    freed = collect(disk.store, dry_run=False, everything=True)
    assert freed.uploads == 0
    assert any("uploads of default stay" in problem for problem in freed.problems)


def test_webhooks_are_given_up_after_a_day(disk: SmallStore) -> None:
    old, young = (Webhook(JobRef("default", digit * 32), 3).key for digit in "01")
    disk.storage.put(old, b"")
    disk.grow_older(DAY_S + 1, old)
    disk.storage.put(young, b"")
    assert gc(disk).webhooks == 1
    assert disk.keys("webhooks/") == [young]


def test_one_tenants_jobs_alone(disk: SmallStore) -> None:
    disk.let_in("other")
    mine, others = disk.submit("a"), disk.submit("b", tenant="other")
    disk.work()
    disk.grow_older(8 * DAY_S)
    gc(disk, tenants=["other"])
    assert disk.view(others).final
    assert not disk.view(mine).final


@pytest.mark.parametrize("days", [{"keep_days": -1}, {"idempotency_days": 0.5}, {"keep_days": float("nan")}])
def test_days_that_cannot_be_are_refused(disk: SmallStore, days: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="days"):
        Collector(disk.store, **days)


def test_the_hint_of_a_suspension_goes_once_the_job_has_gone_on(disk: SmallStore) -> None:
    ref, still = disk.submit("a"), disk.submit("b")
    for job in (ref, still):
        steer.stop(disk.store, job, "suspend")
    (left,) = (key for key in disk.keys("ended/") if key.endswith(ref.id))
    steer.resume(disk.store, ref)
    disk.storage.put(left, b"")  # whoever resumed it was killed before it could remove this
    disk.work()
    disk.grow_older(8 * DAY_S)
    gc(disk)
    gc(disk)
    assert [key.rpartition("/")[2] for key in disk.keys("ended/")] == [still.id]
    assert disk.state(still) == "suspended"


def test_a_retry_that_its_user_gave_up_keeps_nothing(disk: SmallStore) -> None:
    ref = disk.submit("a")
    steer.stop(disk.store, ref, "cancel")
    disk.grow_older(8 * DAY_S)
    disk.store.wish(ref, disk.view(ref).seq, "retry", {})
    gc(disk)
    assert not disk.view(ref).final  # somebody is taking it up right now
    disk.grow_older(8 * DAY_S)
    gc(disk)
    assert disk.view(ref).final
    assert disk.keys(ref.folder) == [ref.final, ref.spec]
