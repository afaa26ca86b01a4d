"""Which job is next: the real scheduler on a bucket in memory; shares between tenants with real workers as well."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ifmdm_core.errors import Unavailable
from jobs import entries
from jobs.entries import JobRecord, Pinned
from jobs.names import JobRef, Marker, Running, rank, tenant_key
from jobs.scheduler import (
    HEAD,
    ORPHAN_S,
    POLICY_S,
    SKIP_S,
    SNAPSHOT_S,
    SOLO_PATIENCE_S,
    UNWANTED_S,
    Claim,
    Scheduler,
    drop_stale,
    settled_wishes,
)  # fmt: skip
from jobs.settle import waiting_key
from jobs.spec import RenderJob
from jobs.store import JobStore
from jobs.tenants import TenantPolicy
from tests.crash.jobs.faults import Odds
from tests.crash.jobs.memory import Bucket, MemoryStorage, Op
from tests.crash.jobs.renderer import Script
from tests.crash.jobs.world import Plan, World
from tests.jobs.small_store import TestClock

ONE, TWO = "1" * 64, "2" * 64


def record(tenant: str, number: int, queued_at: float, bundle: str = ONE, **fields: Any) -> JobRecord:
    """A job as submitted, without a submit: thousands are made in no time."""
    job = RenderJob.model_construct(
        **{
            **{name: field.get_default(call_default_factory=True) for name, field in RenderJob.model_fields.items()},
            "portrait": "s3://media/a.png", "audio": "s3://media/a.wav", "output": f"s3://films/{tenant}/{number}.mp4",
            **fields,
        }
    )  # fmt: skip
    pinned = Pinned(etag="1", size=1)
    return JobRecord(
        tenant=tenant, id=f"{ord(tenant[0]):04x}{number:028x}", nonce="n", submitted_at=queued_at, digest="d",
        bundle_uri="demo", bundle=bundle, holder=1, inputs={"portrait": pinned, "audio": pinned}, given=[], job=job,
    )  # fmt: skip


def enter(bucket: Bucket, given: JobRecord) -> JobRef:
    """Writes what a submit leaves behind."""
    bucket.write(given.ref.spec, given.model_dump_json().encode())
    bucket.write(waiting_key(given.ref, 0, given.initial(), given.submitted_at), b"")
    return given.ref


class Queues:
    """A store in memory and any number of schedulers, whose clock goes on as told."""

    def __init__(self) -> None:
        self.clock = TestClock()
        self.bucket = Bucket("store", self.clock.now)
        self.requests: list[tuple[Op, str]] = []
        self.before: Callable[[Op, str], None] = lambda op, key: None
        self.store = self.of("ann")
        self._number = itertools.count()

    def of(self, by: str) -> JobStore:
        def request(op: Op, key: str, effect: Callable[[], Any]) -> Any:
            self.requests.append((op, key))
            self.before(op, key)
            return effect()

        return JobStore(MemoryStorage(self.bucket, gate=request), by, self.clock)

    def tenant(self, name: str, **policy: Any) -> None:
        self.bucket.write(tenant_key(name), TenantPolicy(**policy).model_dump_json().encode())

    def add(self, tenant: str, count: int = 1, bundle: str = ONE, **fields: Any) -> list[JobRef]:
        if tenant_key(tenant) not in self.bucket.objects:
            self.tenant(tenant)
        refs = []
        for _ in range(count):
            self.clock.passed += 0.01
            refs.append(
                enter(self.bucket, record(tenant, next(self._number), self.clock.now(), bundle, **fields))
            )
        return refs

    def claims(self, scheduler: Scheduler, most: int, **options: Any) -> Iterator[Claim]:
        """What it takes, one after the other, as an idle worker would ask."""
        pause = 1.0
        for _ in range(most):
            claim = scheduler.next(
                alone=options.get("alone", True), wanted=options.get("wanted", lambda b: True)
            )
            if claim is not None:
                yield claim
                pause = 1.0
                continue
            self.clock.passed += pause
            pause = min(10.0, 2 * pause)

    def lose(self, claim: Claim) -> None:
        """Its worker vanishes; somebody puts it into the queue again."""
        after = entries.lost(claim.state, 0, self.clock.now())
        assert self.store.append(claim.ref, claim.seq + 1, "lost", after)
        self.bucket.remove(Running(claim.state.worker or "", claim.ref, claim.seq).key)
        self.bucket.write(Marker(after.rank, claim.ref, claim.seq + 1).key, b"")

    def hints(self, prefix: str) -> list[str]:
        return list(self.bucket.under(prefix))


@pytest.fixture
def queues() -> Queues:
    return Queues()


def test_a_claim_is_an_entry_with_a_hint_and_no_marker(queues: Queues) -> None:
    (ref,) = queues.add("a")
    claim = Scheduler(queues.of("w1")).next(alone=True)
    assert claim is not None
    assert (claim.ref, claim.seq, claim.state.epoch, claim.state.worker) == (ref, 1, 1, "w1")
    assert queues.hints("queue/") == []
    assert queues.hints("running/") == [Running("w1", ref, 1).key]
    assert Scheduler(queues.of("w2")).next(alone=True) is None


def test_the_hint_is_there_before_the_claim_and_the_marker_until_after_it(queues: Queues) -> None:
    (ref,) = queues.add("a")

    def look(op: Op, key: str) -> None:
        if key == ref.log(1) and op == "create":
            assert queues.hints("running/")
            assert queues.hints("queue/")

    queues.before = look
    assert Scheduler(queues.of("w1")).next(alone=True) is not None
    assert ref.log(1) in queues.bucket.objects


def test_older_and_more_important_jobs_come_first(queues: Queues) -> None:
    late = queues.add("a", HEAD)
    queues.clock.passed += 100
    urgent = queues.add("a", HEAD, priority=2)  # counts as if queued two minutes earlier
    claims = list(queues.claims(Scheduler(queues.of("w1")), 2 * HEAD))
    assert {claim.ref for claim in claims[:HEAD]} == set(urgent)
    assert {claim.ref for claim in claims[HEAD:]} == set(late)


def test_workers_seldom_reach_for_the_same(queues: Queues) -> None:
    queues.add("a", HEAD)
    firsts = set()
    for number in range(8):
        store = queues.of(f"w{number}")
        store.clock.chance.seed(number)
        store.clock.passed += SNAPSHOT_S
        claim = Scheduler(store).next(alone=True)
        assert claim is not None
        firsts.add(claim.ref)
    assert len(firsts) == 8


def test_whoever_is_slower_gets_nothing_and_leaves_nothing(queues: Queues) -> None:
    (ref,) = queues.add("a")
    first, second = Scheduler(queues.of("w1")), Scheduler(queues.of("w2"))

    def overtake(op: Op, key: str) -> None:
        if op == "create" and key == ref.log(1):
            queues.before = lambda op, key: None
            assert second.next(alone=True) is not None

    queues.before = overtake
    assert first.next(alone=True) is None
    assert queues.hints("running/") == [Running("w2", ref, 1).key]


@pytest.mark.parametrize("broken", ["final.json", "queue/"])
def test_a_claim_is_not_forgotten_because_the_store_is_silent_afterwards(queues: Queues, broken: str) -> None:
    (ref,) = queues.add("a")

    def silent(op: Op, key: str) -> None:
        if broken in key and ref.log(1) in queues.bucket.objects:
            raise Unavailable("503")

    queues.before = silent
    claim = Scheduler(queues.of("w1")).next(alone=True)
    assert claim is not None
    assert queues.hints("running/") == [Running("w1", ref, 1).key]


def test_a_job_that_ended_while_its_claimant_slept_is_left_alone(queues: Queues) -> None:
    (ref,) = queues.add("a")

    def clean_up(op: Op, key: str) -> None:
        if op == "create" and key == ref.log(1):
            queues.bucket.write(ref.final, b"{}")

    queues.before = clean_up
    assert Scheduler(queues.of("w1")).next(alone=True) is None
    assert queues.hints("running/") == []


class TestShares:
    def test_the_tenant_with_the_least_for_its_weight_is_next(self, queues: Queues) -> None:
        queues.tenant("a", weight=1.0)
        queues.tenant("b", weight=3.0)
        queues.add("a", 100)
        queues.add("b", 100)
        claims = [claim.ref.tenant for claim in queues.claims(Scheduler(queues.of("w1")), 40)]
        assert Counter(claims) == {"a": 10, "b": 30}
        for some in range(4, 40):
            assert Counter(claims[:some])["a"] * 3 - Counter(claims[:some])["b"] in range(-3, 4)

    def test_caps_are_kept_whoever_runs_them(self, queues: Queues) -> None:
        queues.tenant("a", cap=3)
        queues.add("a", 10)
        claims = []
        for number in range(4):  # each sees what the others run
            claims += list(queues.claims(Scheduler(queues.of(f"w{number}")), 5))
        assert len(claims) == 3

    def test_a_cap_of_nothing_holds_all_of_them_back(self, queues: Queues) -> None:
        queues.tenant("a", cap=0)
        queues.add("a", 3)
        queues.add("b", 1)
        claims = list(queues.claims(Scheduler(queues.of("w1")), 10))
        assert [claim.ref.tenant for claim in claims] == ["b"]

    def test_a_policy_that_changes_is_followed_within_a_minute(self, queues: Queues) -> None:
        queues.tenant("a", cap=0)
        queues.add("a", 1)
        scheduler = Scheduler(queues.of("w1"))
        assert scheduler.next(alone=True) is None
        queues.tenant("a")
        queues.clock.passed += POLICY_S + 1.0
        assert scheduler.next(alone=True) is not None

    def test_tenants_without_a_policy_wait(self, queues: Queues) -> None:
        queues.add("a", 1)
        queues.bucket.remove(tenant_key("a"))
        queues.add("b", 1)
        queues.bucket.write(tenant_key("c"), b"{")
        claims = list(queues.claims(Scheduler(queues.of("w1")), 5))
        assert [claim.ref.tenant for claim in claims] == ["b"]

    def test_what_has_ended_makes_room_at_once(self, queues: Queues) -> None:
        queues.tenant("a", cap=1)
        queues.add("a", 2)
        scheduler = Scheduler(queues.of("w1"))
        first = scheduler.next(alone=True)
        assert first is not None
        assert scheduler.next(alone=True) is None
        queues.bucket.remove(queues.hints("running/")[0])
        scheduler.ended("a")
        assert scheduler.next(alone=True) is not None


class TestBlocked:
    @pytest.mark.parametrize("blocked", [100, 1000])
    def test_jobs_of_a_model_nobody_has_deployed_hold_up_nobody(self, queues: Queues, blocked: int) -> None:
        queues.add("a", blocked, bundle=TWO)
        ready = queues.add("a", 5)
        scheduler = Scheduler(queues.of("w1"))
        claims = list(queues.claims(scheduler, 12, wanted=lambda bundle: bundle == ONE))
        assert {claim.ref for claim in claims} == set(ready)

    def test_a_blocked_head_is_read_once_and_then_passed_over(self, queues: Queues) -> None:
        queues.add("a", 1000, bundle=TWO)
        scheduler = Scheduler(queues.of("w1"))
        assert not list(queues.claims(scheduler, 12, wanted=lambda bundle: bundle == ONE))
        queues.requests.clear()
        assert not list(queues.claims(scheduler, 10, wanted=lambda bundle: bundle == ONE))
        assert not any(key.startswith("jobs/") for _, key in queues.requests)

    def test_they_are_taken_as_soon_as_somebody_has(self, queues: Queues) -> None:
        queues.add("a", 50, bundle=TWO)
        scheduler, deployed = Scheduler(queues.of("w1")), {ONE}
        assert not list(queues.claims(scheduler, 10, wanted=lambda bundle: bundle in deployed))
        deployed.add(TWO)
        queues.clock.passed += SKIP_S
        assert len(list(queues.claims(scheduler, 60, wanted=lambda bundle: bundle in deployed))) == 50

    def test_a_job_that_cannot_be_run_here_is_not_read_again_and_again(self, queues: Queues) -> None:
        (ref,) = queues.add("a", 1, bundle=TWO)
        scheduler = Scheduler(queues.of("w1"))
        assert not list(queues.claims(scheduler, 20, wanted=lambda bundle: bundle == ONE))
        began = queues.clock.passed
        queues.requests.clear()
        assert not list(queues.claims(scheduler, 100, wanted=lambda bundle: bundle == ONE))
        looks = sum(key == ref.folder for _, key in queues.requests)
        assert looks <= (queues.clock.passed - began) / UNWANTED_S + 1

    def test_what_is_urgent_does_not_wait_for_all_that_was_listed_before(self, queues: Queues) -> None:
        queues.add("a", HEAD)
        scheduler = Scheduler(queues.of("w1"))
        assert scheduler.next(alone=True) is not None
        (urgent,) = queues.add("a", 1, priority=1000)
        queues.add("a", HEAD, priority=999)
        queues.clock.passed += SNAPSHOT_S
        claims = list(queues.claims(scheduler, HEAD))
        assert urgent in {claim.ref for claim in claims}
        assert all(claim.record.job.priority >= 999 for claim in claims)

    def test_damaged_jobs_and_those_of_another_version_are_passed_over(self, queues: Queues) -> None:
        damaged, later, good = queues.add("a", 3)
        queues.bucket.write(damaged.spec, b"{")
        queues.bucket.write(later.spec, b'{"layout": 2}')
        claims = list(queues.claims(Scheduler(queues.of("w1")), 10))
        assert [claim.ref for claim in claims] == [good]
        assert len(queues.hints("queue/")) == 2  # for a person to look at

    def test_a_marker_without_a_job_is_dropped_after_an_hour(self, queues: Queues) -> None:
        (ref,) = queues.add("a")
        queues.bucket.remove(ref.spec)
        scheduler = Scheduler(queues.of("w1"))
        assert not list(queues.claims(scheduler, 10))
        assert len(queues.hints("queue/")) == 1  # its submit may still be on the way
        queues.clock.passed += ORPHAN_S
        assert not list(queues.claims(scheduler, 10))
        assert queues.hints("queue/") == []

    def test_a_job_past_its_deadline_is_ended_not_rendered(self, queues: Queues) -> None:
        (ref,) = queues.add("a", deadline=queues.clock.now() + 50, callback="https://hook.example/x")
        queues.clock.passed += 100
        assert not list(queues.claims(Scheduler(queues.of("w1")), 10))
        view = queues.store.view(ref)
        assert view.state.state == "expired"
        assert view.state.fault is not None
        assert len(queues.hints("ended/a/")) == 1
        assert len(queues.hints("webhooks/")) == 1
        assert queues.hints("running/") == []
        queues.clock.passed += SKIP_S
        assert not list(queues.claims(Scheduler(queues.of("w1")), 2))
        assert queues.hints("queue/") == []


class TestAlone:
    def lost(self, queues: Queues) -> JobRef:
        """A job whose worker has vanished once."""
        (ref,) = queues.add("a")
        claim = Scheduler(queues.of("w0")).next(alone=True)
        assert claim is not None
        queues.lose(claim)
        return ref

    def test_it_goes_to_an_idle_worker_only(self, queues: Queues) -> None:
        ref = self.lost(queues)
        assert Scheduler(queues.of("w1")).next(alone=False) is None
        claim = Scheduler(queues.of("w2")).next(alone=True)
        assert claim is not None
        assert (claim.ref, claim.state.solo) == (ref, True)

    def test_a_busy_worker_takes_other_jobs_first_and_then_none_for_its_sake(self, queues: Queues) -> None:
        ref = self.lost(queues)
        queues.add("a", 100)
        busy = Scheduler(queues.of("w1"))
        assert next(queues.claims(busy, 5, alone=False)).ref != ref
        queues.clock.passed += SOLO_PATIENCE_S + SKIP_S
        taken = list(queues.claims(busy, 60, alone=False))
        assert len(taken) < 40  # it found the job among the first ones, and holds back
        claim = busy.next(alone=True)
        assert claim is not None
        assert claim.ref == ref

    def test_nobody_waits_for_it_any_more_once_another_has_it(self, queues: Queues) -> None:
        self.lost(queues)
        queues.clock.passed += SOLO_PATIENCE_S + 1
        busy = Scheduler(queues.of("w1"))
        assert busy.next(alone=False) is None
        queues.add("a", 1)
        queues.clock.passed += SNAPSHOT_S
        assert busy.next(alone=False) is None  # it is kept free for that job
        assert Scheduler(queues.of("w2")).next(alone=True) is not None
        queues.clock.passed += SNAPSHOT_S
        assert busy.next(alone=False) is not None


class TestMarkers:
    def test_one_that_the_log_has_overtaken_goes(self, queues: Queues) -> None:
        (ref,) = queues.add("a")
        (old,) = queues.hints("queue/")
        claim = Scheduler(queues.of("w1")).next(alone=True)
        assert claim is not None
        queues.bucket.write(old, b"")
        queues.bucket.remove(Running("w1", ref, 1).key)
        marker = Marker.parse(old)
        assert marker is not None
        assert drop_stale(queues.store, marker, queues.store.view(ref))
        assert queues.hints("queue/") == []
        # Its claimant may have died before it put the hint again: whoever takes the marker away sees to it.
        assert queues.hints("running/") == [Running("w1", ref, 1).key]

    def test_one_that_is_needed_stays(self, queues: Queues) -> None:
        (ref,) = queues.add("a")
        marker = Marker.parse(queues.hints("queue/")[0])
        assert marker is not None
        assert not drop_stale(queues.store, marker, queues.store.view(ref))
        claim = Scheduler(queues.of("w1")).next(alone=True)
        assert claim is not None
        queues.lose(claim)
        again = Marker.parse(queues.hints("queue/")[0])
        assert again is not None
        assert (again.rank, again.seq) == (marker.rank, 2)
        assert not drop_stale(queues.store, again, queues.store.view(ref))

    def test_names_that_are_none_of_ours_are_passed_over(self, queues: Queues) -> None:
        queues.bucket.write("queue/a/notes.txt", b"")
        queues.bucket.write("running/w1/notes.txt", b"")
        (ref,) = queues.add("a")
        claims = list(queues.claims(Scheduler(queues.of("w1")), 5))
        assert [claim.ref for claim in claims] == [ref]
        assert "queue/a/notes.txt" in queues.bucket.objects


class TestWishes:
    def wish(self, queues: Queues, ref: JobRef, kind: Any, **content: Any) -> None:
        view = queues.store.view(ref)
        queues.store.wish(ref, view.seq, kind, content)

    def test_whoever_meets_the_marker_does_what_a_user_could_not(self, queues: Queues) -> None:
        (ref,) = queues.add("a")
        self.wish(queues, ref, "stop", how="suspend")
        scheduler = Scheduler(queues.of("w1"))
        assert scheduler.next(alone=True) is None
        view = queues.store.view(ref)
        assert view.state.state == "suspended"
        self.wish(queues, ref, "resume")
        queues.bucket.write(Marker(view.state.rank, ref, view.seq).key, b"")
        queues.clock.passed += SKIP_S
        claims = list(queues.claims(scheduler, 5))
        assert [claim.ref for claim in claims] == [ref]
        assert [entry.kind for entry in queues.store.log(ref)] == ["suspended", "queued", "claimed"]

    def test_another_priority_is_another_place_in_the_queue(self, queues: Queues) -> None:
        ref, _ = queues.add("a", 2)
        self.wish(queues, ref, "priority", priority=-10)
        view = settled_wishes(queues.store, queues.store.view(ref))
        assert (view.state.priority, view.state.rank) == (-10, rank(view.state.queued_at, -10))
        assert queues.hints("queue/a/")[-1] == Marker(view.state.rank, ref, view.seq).key

    @pytest.mark.parametrize("content", [{}, {"priority": "high"}, {"priority": None}])
    def test_a_wish_that_makes_no_sense_changes_nothing(
        self, queues: Queues, content: dict[str, Any]
    ) -> None:
        (ref,) = queues.add("a")
        self.wish(queues, ref, "priority", **content)
        assert settled_wishes(queues.store, queues.store.view(ref)).seq == 0
        assert Scheduler(queues.of("w1")).next(alone=True) is not None


@pytest.mark.parametrize("slots", [4, 20])
def test_ten_thousand_jobs_of_one_tenant_delay_ten_of_another_by_one_for_each_slot(slots: int) -> None:
    """Real workers, in simulated time: two with half of the slots each."""
    job_s, plan = 30.0, Plan(
        seed=7, kind="calm", odds=Odds(), workers=(slots // 2, slots // 2), users=1, jobs=(),
        policies={tenant: TenantPolicy(outputs=(f"s3://films/{tenant}/",), inputs=("s3://media/",)) for tenant in "ab"},
        chaos_s=1e9, stall_s=600.0, whim_s=None,
    )  # fmt: skip
    world = World(plan)
    store, renderer = world.buckets["store"], world.renderer
    world.watch.say = lambda what: None  # type: ignore[method-assign]
    began = world.hub.now

    def submit(tenant: str, count: int) -> list[JobRef]:
        records = [record(tenant, number, world.hub.now - 1000.0 + 0.01 * number) for number in range(count)]
        renderer.scripts.update({given.id: Script(3, job_s / 3) for given in records})
        return [enter(store, given) for given in records]

    submit("a", 10_000)
    world.start()
    world.hub.run(lambda: world.hub.now > began + 100.0)
    arrived, small = world.hub.now, submit("b", 10)
    claims: list[tuple[float, str]] = []

    def started() -> int:
        return sum(world.watch.followed(str(ref)).state["epoch"] > 0 for ref in small)

    world.hub.run(lambda: started() == 10 or world.hub.now > arrived + 100 * job_s)
    last = world.hub.now
    for job in world.watch.jobs.values():
        claims += [
            (entry["at"], job.name[0])
            for entry in job.log
            if entry["kind"] == "claimed" and entry["at"] > arrived
        ]
    world.hub.end()
    assert started() == 10
    others = sum(tenant == "a" for _, tenant in claims)
    # Every slot was busy with one of the other tenant's; after that one the ten have the half that is theirs.
    assert others <= 10
    rounds = 1 + max(0.0, 10 / (slots / 2) - 1)
    assert last - arrived <= 1.5 * job_s * rounds + 15.0
