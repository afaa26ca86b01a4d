"""Submitting: what is checked, what is found again, who gets an output, and what a crash leaves."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from greenlet import getcurrent, greenlet
from hypothesis import given, settings
from hypothesis import strategies as st

from ifmdm_core.errors import BadInput, Conflict, Forbidden, IfmdmError, NotFound
from jobs.accept import Pins
from jobs.names import JobRef, Later, Marker, output_holder
from jobs.outputs import Holder, given_on
from jobs.scheduler import Scheduler
from jobs.settle import waiting_key
from jobs.spec import parse_job
from jobs.store import JobStore
from jobs.submit import Submitted, submit_job
from tests.jobs.small_store import SmallStore


@pytest.fixture(params=["folder", "s3"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> SmallStore:
    if request.param == "folder":
        return SmallStore(tmp_path / "store")
    return SmallStore(f"s3://renders/{tmp_path.name}", request.getfixturevalue("s3_config"))


@pytest.fixture
def disk(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


class Watched:
    """A storage that tells `before` of every call, and may be made to do something then.

    Args:
        before: called with the method's name and its key.
    """

    def __init__(self, storage: Any, before: Callable[[str, str], None]) -> None:
        self._storage, self._before = storage, before
        self.root = storage.root

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._storage, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._before(name, str(args[0]) if args else "")
            return method(*args, **kwargs)

        return call


def submit(small: SmallStore, store: JobStore, **fields: Any) -> Submitted:
    """Job `a`, through another store than the small one's own."""
    given = {
        "portrait": small.uri("in/ann.png"),
        "audio": small.uri("in/ann.wav"),
        "output": small.uri("out/a.mp4"),
    }
    job = parse_job({**given, **fields})
    return submit_job(store, small.places, "default", small.policy(), job)


def specs(small: SmallStore) -> list[str]:
    return [key for key in small.keys("jobs/") if key.endswith("/spec.json")]


def refusal(small: SmallStore, kind: type[IfmdmError], field: str, **fields: Any) -> str:
    """What a submit is refused with; nothing was written."""
    before = small.keys("")
    with pytest.raises(kind) as error:
        small.hand_in("a", **fields)
    assert error.value.field == field
    assert small.keys("") == before
    return str(error.value)


# What is written


def test_a_new_job_is_three_objects_written_in_the_order_that_a_crash_cannot_spoil(small: SmallStore) -> None:
    written: list[str] = []

    def before(method: str, key: str) -> None:
        if method in ("put", "put_if_absent"):
            written.append(key)

    done = submit(small, JobStore(Watched(small.storage, before), "ann", small.clock))
    record = small.store.record(done.ref)
    assert written == [
        output_holder(small.uri("out/a.mp4"), 1),
        Marker(record.initial().rank, done.ref, 0).key,
        done.ref.spec,
    ]
    assert (done.created, done.state, done.bundle) == (True, "queued", small.policy().model("demo").sha256)
    assert record.inputs["portrait"].size == len("ann.png")
    assert record.given == ["audio", "output", "portrait"]


def test_the_same_again_is_found_with_its_state_and_age(small: SmallStore) -> None:
    first = small.hand_in("a")
    before = small.keys("")
    small.clock.passed += 30
    again = small.hand_in("a")
    assert (again.ref, again.created, again.state) == (first.ref, False, "queued")
    assert again.age == pytest.approx(30, abs=1)
    assert small.keys("") == before
    small.work()
    assert small.hand_in("a").state == "published"


def test_equal_places_are_one_job(disk: SmallStore) -> None:
    first = disk.hand_in("a")
    root = disk.storage.root
    other = disk.hand_in("a", portrait=f"file://{root}/out/../in/ann.png", output=f"{root}/./out//a.mp4")
    assert (other.ref, other.created) == (first.ref, False)


def test_a_key_with_other_fields_is_a_conflict_that_names_them(small: SmallStore) -> None:
    first = small.hand_in("a", key="k", priority=3)
    before = set(small.keys("queue/"))
    with pytest.raises(Conflict) as error:
        small.hand_in("b", key="k", controls={"seed": 5})
    assert first.ref.id in str(error.value)
    for part in ("output (", "controls (", "priority (3 there, 0 here)"):
        assert part in str(error.value)
    assert "portrait (" not in str(error.value)
    assert set(small.keys("queue/")) == before
    assert specs(small) == [first.ref.spec]


def test_a_key_with_an_input_that_was_replaced_is_a_conflict(disk: SmallStore) -> None:
    disk.hand_in("a", key="k")
    disk.storage.put("in/ann.wav", b"another take")
    with pytest.raises(Conflict, match="audio \\(same name, other contents\\)"):
        disk.hand_in("a", key="k")


def test_what_was_set_to_its_default_makes_no_other_job_under_a_key(disk: SmallStore) -> None:
    first = disk.hand_in("a", key="k")
    assert disk.hand_in("a", key="k", priority=0).ref == first.ref


def test_new_forces_another_job(disk: SmallStore) -> None:
    first = disk.hand_in("a", key="k")
    disk.work()
    job = parse_job(
        disk.store.record(first.ref).job.model_copy(update={"if_exists": "overwrite"}).model_dump()
    )
    made = [
        submit_job(disk.store, disk.places, "default", disk.policy(), job, new=True).ref for _ in range(2)
    ]
    assert len({first.ref, *made}) == 3


def test_a_job_for_later_waits_there(disk: SmallStore) -> None:
    done = disk.hand_in("a", not_before=disk.clock.now() + 3600)
    assert disk.keys("queue/") == []
    (key,) = disk.keys("later/")
    later = Later.parse(key)
    assert later is not None
    assert (later.job, later.seq) == (done.ref, 0)


# What is checked


@pytest.mark.parametrize("field", ["portrait", "audio"])
def test_a_missing_input_is_named(small: SmallStore, field: str) -> None:
    said = refusal(small, NotFound, field, **{field: small.uri("in/nobody.jpg")})
    assert said.startswith(f"{field} ")
    assert "in/nobody.jpg" in said


def test_an_empty_input_is_refused(disk: SmallStore) -> None:
    disk.storage.put("in/empty.wav", b"")
    assert "is empty" in refusal(disk, BadInput, "audio", audio=disk.uri("in/empty.wav"))


def test_another_version_than_was_meant_is_a_conflict_with_both(small: SmallStore) -> None:
    item = small.storage.info("in/ann.png")
    assert item is not None
    said = refusal(small, Conflict, "portrait_etag", portrait_etag="abc")
    assert "'abc'" in said
    assert f"'{item.etag}'" in said
    assert small.hand_in("a", portrait_etag=f'"{item.etag}"').created


def test_places_outside_of_the_tenants_are_forbidden(disk: SmallStore, tmp_path: Path) -> None:
    disk.let_in("default", inputs=(disk.uri("in"),), outputs=(disk.uri("out"),))
    assert "allowed:" in refusal(disk, Forbidden, "audio", audio=disk.uri("elsewhere/a.wav"))
    assert "allowed:" in refusal(disk, Forbidden, "output", output=disk.uri("in/a.mp4"))
    refusal(disk, Forbidden, "output", output=f"{disk.storage.root}/out/../in/a.mp4")


def test_links_do_not_lead_out(disk: SmallStore, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.wav").write_bytes(b"secret")
    Path(disk.uri("in/link")).symlink_to(tmp_path / "secret")
    refusal(disk, Forbidden, "audio", audio=disk.uri("in/link/a.wav"))


def test_the_stores_own_folders_are_nobodys_but_what_a_tenant_handed_over(small: SmallStore) -> None:
    small.storage.put("uploads/default/a.wav", b"mine")
    small.storage.put("uploads/other/a.wav", b"not mine")
    refusal(small, Forbidden, "audio", audio=small.uri("uploads/other/a.wav"))
    refusal(small, Forbidden, "portrait", portrait=small.uri("tenants/default.json"))
    for place in ("attempts/other/x/1/video.mp4", "uploads/default/a.mp4", "queue/a.mp4"):
        refusal(small, Forbidden, "output", output=small.uri(place))
    assert small.hand_in("a", audio=small.uri("uploads/default/a.wav")).created


def test_callbacks_go_to_allowed_hosts_only(disk: SmallStore) -> None:
    disk.let_in("default", webhook_hosts=("hooks.example.com",))
    for address in (
        "https://evil.example.com/x",
        "https://hooks.example.com@evil.example.com/",
        "http://[oops/",
    ):
        assert "hooks.example.com" in refusal(disk, Forbidden, "callback", callback=address)
    assert disk.hand_in("a", callback="https://Hooks.example.com:8443/x").created


def test_a_model_is_one_of_the_tenants_and_pinned(disk: SmallStore) -> None:
    assert "'demo'" in refusal(disk, BadInput, "model", model="dmeo")
    done = disk.hand_in("a")
    record = disk.store.record(done.ref)
    assert (record.bundle_uri, record.bundle) == ("demo", done.bundle)


def test_relative_paths_mean_nothing_to_workers(disk: SmallStore) -> None:
    assert "relative" in refusal(disk, BadInput, "portrait", portrait="in/ann.png")


def test_a_deadline_that_has_passed_makes_no_job_but_finds_one(disk: SmallStore) -> None:
    at = disk.clock.now() + 100
    done = disk.hand_in("a", deadline=at)
    disk.clock.passed += 200
    assert disk.hand_in("a", deadline=at).ref == done.ref
    refusal(disk, BadInput, "deadline", deadline=at, priority=1)


@pytest.mark.parametrize(
    ("name", "start"),
    [("portrait", b"%PDF-1.7 and more"), ("audio", b"\x89PNG\r\n\x1a\n"), ("audio", b"<?xml ")],
)
def test_a_probe_looks_at_first_bytes(disk: SmallStore, name: str, start: bytes) -> None:
    disk.storage.put("in/ann.png", b"\x89PNG\r\n\x1a\n")
    disk.storage.put("in/odd", start)
    fields = {
        "portrait": disk.uri("in/ann.png"),
        "audio": disk.uri("in/ann.wav"),
        "output": disk.uri("out/a.mp4"),
    }
    job = parse_job({**fields, name: disk.uri("in/odd")})
    with pytest.raises(BadInput) as error:
        submit_job(disk.store, disk.places, "default", disk.policy(), job, probe=True)
    assert error.value.field == name
    assert submit_job(disk.store, disk.places, "default", disk.policy(), job).created


def test_what_is_fit_for_a_portrait_is_not_taken_for_sound(disk: SmallStore) -> None:
    disk.storage.put("in/ann.png", b"\x89PNG\r\n\x1a\n")
    picture = disk.uri("in/ann.png")
    job = parse_job({"portrait": picture, "audio": picture, "output": disk.uri("out/a.mp4")})
    with pytest.raises(BadInput, match="a picture, no sound"):
        submit_job(disk.store, disk.places, "default", disk.policy(), job, probe=True)


def test_inputs_that_many_jobs_name_are_looked_at_once(disk: SmallStore) -> None:
    pins, looked = Pins(disk.clock), 0
    storage, key = disk.places.at(disk.uri("in/ann.png"), disk.policy().inputs, "portrait")

    def before(method: str, key: str) -> None:
        nonlocal looked
        looked += method == "info"

    watched: Any = Watched(storage, before)
    for _ in range(5):
        pins.pin(watched, key, "x", "portrait", False)
    assert looked == 1
    disk.clock.passed += 3600
    pins.pin(watched, key, "x", "portrait", False)
    assert looked == 2


# Who gets an output


def test_an_output_belongs_to_one_job_at_a_time(small: SmallStore) -> None:
    first = small.hand_in("a")
    with pytest.raises(Conflict) as error:
        small.hand_in("a", priority=1)
    assert first.ref.id in str(error.value)
    assert "queued" in str(error.value)
    assert error.value.field == "output"
    assert specs(small) == [first.ref.spec]


def test_overwriting_takes_it_over_and_the_earlier_job_finds_out(small: SmallStore) -> None:
    first = small.hand_in("a", labels={"take": "1"})
    second = small.hand_in("a", labels={"take": "2"}, if_exists="overwrite")
    assert small.store.record(second.ref).holder == 2
    small.work()
    assert small.state(second.ref) == "published"
    view = small.view(first.ref)
    assert view.state.fault is not None
    assert (view.state.state, view.state.fault.kind) == ("failed", "Conflict")
    assert small.storage.get("out/a.mp4").startswith(second.ref.id.encode())


def test_after_a_job_has_ended_its_output_is_free_unless_something_is_there(small: SmallStore) -> None:
    first = small.hand_in("a")
    small.work()
    assert small.state(first.ref) == "published"
    with pytest.raises(Conflict, match="exists already"):
        small.hand_in("a", priority=1)
    small.storage.delete("out/a.mp4")
    second = small.hand_in("a", priority=1)
    small.work()
    assert small.state(second.ref) == "published"
    assert small.storage.get("out/a.mp4").startswith(second.ref.id.encode())


def test_a_right_without_a_job_holds_for_an_hour(small: SmallStore) -> None:
    holder = Holder(tenant="default", id="f" * 32, at=0.0, nonce="n")
    small.storage.put(output_holder(small.uri("out/a.mp4"), 1), holder.model_dump_json().encode())
    with pytest.raises(Conflict, match="not ended"):
        small.hand_in("a")
    small.grow_older(3700, "outputs/")
    done = small.hand_in("a")
    assert small.store.record(done.ref).holder == 2


def test_another_tenants_job_is_not_told(disk: SmallStore) -> None:
    disk.let_in("other")
    first = disk.hand_in("a", tenant="other")
    with pytest.raises(Conflict) as error:
        disk.hand_in("a")
    assert first.ref.id not in str(error.value)
    assert "another tenant's" in str(error.value)


def test_a_right_of_a_job_with_another_output_counts_for_nothing(disk: SmallStore) -> None:
    disk.hand_in("a", key="k")
    with contextlib.suppress(Conflict):
        disk.hand_in("b", key="k")  # takes the right to b before it finds the job of that key
    assert disk.hand_in("b").created


def test_a_later_right_of_the_same_job_is_no_other_jobs(disk: SmallStore) -> None:
    first = disk.hand_in("a")
    output = disk.uri("out/a.mp4")
    mine = Holder(tenant="default", id=first.ref.id, at=0.0, nonce="n")
    disk.storage.put(output_holder(output, 2), mine.model_dump_json().encode())
    assert given_on(disk.store, first.ref, output, 1) is None
    disk.work()
    assert disk.state(first.ref) == "published"
    other = JobRef("default", "f" * 32)
    assert given_on(disk.store, other, output, 1) == first.ref


# Crashes and company


class _Crash(BaseException):
    pass


@pytest.mark.parametrize("step", range(3))
@pytest.mark.parametrize("happened", [False, True])
def test_a_submit_that_died_is_finished_by_the_next(disk: SmallStore, step: int, happened: bool) -> None:
    writes = iter(range(100))
    dying = False

    def before(method: str, key: str) -> None:
        nonlocal dying
        if dying:
            raise _Crash
        if method in ("put", "put_if_absent") and next(writes) == step:
            if not happened:
                raise _Crash
            dying = True

    crashing = Watched(disk.storage, before)
    with contextlib.suppress(_Crash):
        submit(disk, JobStore(crashing, "ann", disk.clock))
    disk.clock.passed += 60
    done = submit(disk, disk.store)
    assert specs(disk) == [done.ref.spec]
    assert len(disk.keys("queue/")) == 1
    disk.work()
    assert disk.state(done.ref) == "published"
    assert disk.keys("queue/") == []


def test_a_submit_that_slept_for_hours_before_its_last_step_is_no_job_without_a_marker(
    disk: SmallStore,
) -> None:
    def before(method: str, key: str) -> None:
        if method == "put_if_absent" and key.endswith("/spec.json"):
            disk.clock.passed += 4000
            disk.grow_older(4000)
            assert Scheduler(disk.worker().store).next(alone=True) is None  # and drops the marker
            assert disk.keys("queue/") == []

    done = submit(disk, JobStore(Watched(disk.storage, before), "ann", disk.clock))
    assert len(disk.keys("queue/")) == 1
    disk.work()
    assert disk.state(done.ref) == "published"


def test_a_job_whose_marker_is_gone_gets_one_by_submitting_again(disk: SmallStore) -> None:
    done = disk.hand_in("a")
    (key,) = disk.keys("queue/")
    disk.storage.delete(key)
    assert disk.hand_in("a").created is False
    assert disk.keys("queue/") == [key]
    disk.work()
    assert disk.state(done.ref) == "published"


def test_sixty_four_threads_with_one_key_make_one_job(small: SmallStore) -> None:
    begin, found, errors = threading.Barrier(64), [], []

    def run(number: int) -> None:
        store = JobStore(small.storage, f"user{number}", small.clock)
        begin.wait()
        try:
            found.append(submit(small, store, key="k"))
        except IfmdmError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len({done.ref for done in found}) == 1
    assert sum(done.created for done in found) == 1
    assert specs(small) == [found[0].ref.spec]
    record = small.store.record(found[0].ref)
    assert small.keys("queue/") == [waiting_key(record.ref, 0, record.initial(), record.submitted_at)]
    assert len(small.keys("outputs/")) == 1


class _Turns:
    """Submits that take turns before every call to the store, as a schedule says; some die on the way."""

    def __init__(self, small: SmallStore) -> None:
        self.small = small
        self.results: list[Submitted | Conflict] = []

    def begin(self, number: int, **fields: Any) -> greenlet:
        def before(method: str, key: str) -> None:
            if getcurrent().parent.switch() == "die":
                raise _Crash

        def run(_: object) -> None:
            store = JobStore(Watched(self.small.storage, before), f"user{number}", self.small.clock)
            with contextlib.suppress(_Crash):
                try:
                    self.results.append(submit(self.small, store, **fields))
                except Conflict as error:
                    self.results.append(error)

        return greenlet(run)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    numbers = iter(range(10**6))
    base = tmp_path_factory.mktemp("turns")
    return (base / str(number) for number in numbers)


@settings(max_examples=60, deadline=None)
@given(
    schedule=st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.floats(0, 500)), max_size=40),
    takes=st.lists(st.sampled_from(["1", "2"]), min_size=4, max_size=4),
)
def test_whatever_happens_to_submits_of_one_key_they_end_as_one_job(
    folders: Iterator[Path], schedule: list[tuple[int, bool, float]], takes: list[str]
) -> None:
    small = SmallStore(next(folders))
    turns = _Turns(small)
    running = [turns.begin(number, key="k", labels={"take": take}) for number, take in enumerate(takes)]
    for number, dies, passed in schedule:
        small.clock.passed += passed
        if not running[number].dead:
            running[number].switch("die" if dies and passed > 250 else "go")
    for each in running:
        while not each.dead:
            each.switch("go")
    last: Submitted | None = None
    for take in ("1", "2"):  # whichever was entered is found
        with contextlib.suppress(Conflict):
            last = submit(small, small.store, key="k", labels={"take": take})
    assert last is not None
    assert specs(small) == [last.ref.spec]
    record = small.store.record(last.ref)
    done = [result for result in turns.results if isinstance(result, Submitted)]
    assert sum(result.created for result in done) <= 1
    assert all(result.ref == last.ref for result in done)
    markers = [Marker.parse(key) for key in small.keys("queue/")]
    assert all(marker is not None and (marker.job, marker.seq) == (last.ref, 0) for marker in markers)
    assert Marker(record.initial().rank, last.ref, 0) in markers
    small.work()
    assert small.state(last.ref) == "published"
    assert small.keys("queue/") == []
    assert json.loads(small.storage.get(last.ref.spec))["id"] == last.ref.id
