"""Which job is next: the real scheduler on a bucket in memory."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from ifmdm_core.errors import Unavailable
from ifmdm_core.storage.memory import Op
from jobs.names import JobRef, Marker, Running, rank, tenant_key
from jobs.scheduler import (
    HEAD,
    ORPHAN_S,
    POLICY_S,
    SKIP_S,
    SNAPSHOT_S,
    SOLO_PATIENCE_S,
    UNWANTED_S,
    Scheduler,
    drop_stale,
    settled_wishes,
)
from tests.jobs.queues import ONE, TWO, Queues


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

    def test_whoever_is_slow_to_take_up_a_job_hides_none_of_its_ends(self, queues: Queues) -> None:
        (ref,) = queues.add("a")
        self.wish(queues, ref, "stop", how="cancel")
        settled_wishes(queues.store, queues.store.view(ref))
        self.wish(queues, ref, "retry")
        slow, view = queues.of("slow"), queues.store.view(ref)
        (ended,) = queues.hints("ended/")
        step = 0

        def others(op: Op, key: str) -> None:
            """While it is at its third step another one takes the job up, and a user cancels it once more."""
            nonlocal step
            step += 1
            if step == 3:
                queues.before = lambda op, key: None
                settled_wishes(queues.store, queues.store.view(ref))
                self.wish(queues, ref, "stop", how="cancel")
                settled_wishes(queues.store, queues.store.view(ref))

        queues.before = others
        settled_wishes(slow, view)
        assert [entry.kind for entry in queues.store.log(ref)] == ["cancelled", "queued", "cancelled"]
        assert queues.hints("ended/") == [ended]
        assert queues.hints("running/") == []

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
