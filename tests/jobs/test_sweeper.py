"""What a sweeper makes of hints whose workers have vanished, hesitate, or stand still."""

from __future__ import annotations

from typing import Any

import pytest

from ifmdm_core.errors import Unavailable
from ifmdm_core.storage.memory import Bucket, MemoryStorage, Op, sha256_of
from jobs import entries
from jobs.entries import MAX_SOLO_LOSSES, JobState, Video
from jobs.heartbeat import TAKEOVER_S, Beat, JobBeat, write_beat
from jobs.names import JobRef, Later, Marker, Running, heartbeat, minute, tenant_key
from jobs.scheduler import Claim, Scheduler
from jobs.sweeper import FORGOTTEN_S, STALL_S, Sweeper, Swept
from tests.crash.jobs.world import SimPlaces
from tests.jobs.queues import Queues


class Room(Queues):
    """Queues, what is published, and workers that beat as told."""

    def __init__(self) -> None:
        super().__init__()
        self.films = Bucket("films", self.clock.now)
        self.tenant("a", outputs=("s3://films/",))
        self.sweepers = {name: self.sweeper(name) for name in ("s1", "s2")}

    def sweeper(self, by: str) -> Sweeper:
        return Sweeper(self.of(by), SimPlaces(lambda uri: MemoryStorage(self.films, uri.path)))

    def sweep(self, by: str = "s1") -> Swept:
        return self.sweepers[by].sweep()

    def beat(self, worker: str, *claims: Claim, still_s: float = 0.0, frames: int = 0, **said: Any) -> None:
        jobs = {
            str(claim.ref): JobBeat(seq=claim.seq, frames=frames, total=99, counter=1, still_s=still_s)
            for claim in claims
        }
        beat = Beat(worker=worker, host="desk", slots=1, started_at=0.0, jobs=jobs, **said)
        write_beat(self.store.storage, beat)

    def claim(self, worker: str = "w1") -> Claim:
        self.beat(worker)
        claim = Scheduler(self.of(worker)).next(alone=True)
        assert claim is not None
        return claim

    def finish(self, claim: Claim, worker: str = "w1") -> Video:
        """Its attempt is done, and its video in the store; no more has happened."""
        key, data = f"{claim.ref.attempt(claim.state.epoch)}/video.mp4", b"a film"
        self.bucket.write(key, data)
        video = Video(
            epoch=claim.state.epoch, key=key, sha256=sha256_of(data), size=len(data), frames=9, fps=25
        )
        self.tell(claim, "done", entries.done(claim.state, video, {}, self.clock.now()), worker)
        return video

    def tell(self, claim: Claim, kind: Any, after: JobState, worker: str = "w1") -> None:
        assert self.of(worker).append(claim.ref, claim.seq + 1, kind, after)

    def kinds(self, ref: JobRef) -> list[str]:
        return [entry.kind for entry in self.store.log(ref)]

    def state(self, ref: JobRef) -> JobState:
        return self.store.view(ref).state


@pytest.fixture
def room() -> Room:
    return Room()


class TestVanished:
    def test_a_job_is_taken_from_a_worker_that_has_been_silent_for_a_minute(self, room: Room) -> None:
        (ref,) = room.add("a")
        claim = room.claim()
        room.beat("w1", claim)
        room.clock.passed += TAKEOVER_S - 5
        assert room.sweep().lost == 0
        room.clock.passed += 10
        assert room.sweep().lost == 1
        assert room.kinds(ref) == ["claimed", "lost"]
        assert room.state(ref).solo
        assert room.hints("queue/") == [Marker(room.state(ref).rank, ref, 2).key]
        assert room.hints("running/") == []

    def test_a_worker_may_ask_for_more_patience(self, room: Room) -> None:
        room.add("a")
        claim = room.claim()
        room.beat("w1", claim, takeover_s=300.0)
        room.clock.passed += 290
        assert room.sweep().lost == 0
        room.clock.passed += 20
        assert room.sweep().lost == 1

    def test_a_worker_that_signed_off_is_not_waited_for(self, room: Room) -> None:
        room.add("a")
        room.claim()
        room.bucket.remove(heartbeat("w1"))
        assert room.sweep().lost == 1

    @pytest.mark.parametrize("skew_s", [-7200.0, 7200.0])
    def test_only_the_stores_clock_counts(self, room: Room, skew_s: float) -> None:
        room.bucket.now = lambda: room.clock.now() + skew_s
        room.add("a")
        room.beat("w1", room.claim())
        assert room.sweep().lost == 0

    def test_of_two_sweepers_one_takes_it(self, room: Room) -> None:
        (ref,) = room.add("a")
        room.claim()
        room.clock.passed += TAKEOVER_S + 2

        def other(op: Op, key: str) -> None:
            if op == "create" and key == ref.log(2):
                room.before = lambda op, key: None
                assert room.sweep("s2").lost == 1

        room.before = other
        assert room.sweep("s1").lost == 0
        assert room.kinds(ref) == ["claimed", "lost"]
        assert len(room.hints("queue/")) == 1

    def test_who_gets_further_each_time_may_be_lost_often(self, room: Room) -> None:
        (ref,) = room.add("a")
        for number in range(2 * MAX_SOLO_LOSSES + 2):
            claim = room.claim(f"w{number}")
            room.beat(f"w{number}", claim, frames=10 * number + 10)
            room.clock.passed += TAKEOVER_S + 2
            room.sweep()
            assert room.state(ref).state == "queued"

    def test_a_job_that_kills_its_workers_is_dead_in_the_end(self, room: Room) -> None:
        (ref,) = room.add("a", callback="https://hook.example/told")
        while room.state(ref).state == "queued":
            room.claim()
            room.clock.passed += TAKEOVER_S + 2
            room.sweep()
        assert room.state(ref).state == "dead"
        assert room.state(ref).fault is not None
        assert (len(room.hints("ended/")), len(room.hints("webhooks/"))) == (1, 1)
        assert room.hints("running/") == room.hints("queue/") == []


class TestLeftUndone:
    def test_a_video_that_is_done_is_published(self, room: Room) -> None:
        (ref,) = room.add("a")
        claim = room.claim()
        video = room.finish(claim)
        room.clock.passed += TAKEOVER_S + 2
        room.sweep()
        assert room.kinds(ref) == ["claimed", "done", "published"]
        assert [there.sha256 for there in room.films.objects.values()] == [video.sha256]
        assert room.hints("running/") == []

    def test_what_was_published_and_taken_away_stays_away(self, room: Room) -> None:
        (ref,) = room.add("a")
        claim = room.claim()
        room.finish(claim)
        done = room.store.view(ref)
        assert room.of("w1").append(ref, 3, "published", entries.published(done.state))
        room.clock.passed += TAKEOVER_S + 2
        room.sweep()
        assert not room.films.objects
        assert len(room.hints("ended/")) == 1

    def test_a_job_that_waits_again_gets_its_marker(self, room: Room) -> None:
        (ref,) = room.add("a")
        claim = room.claim()
        room.tell(claim, "released", entries.released(claim.state, 3, {}, room.clock.now()))
        room.clock.passed += TAKEOVER_S + 2
        assert room.sweep().lost == 0
        assert room.hints("queue/") == [Marker(room.state(ref).rank, ref, 2).key]
        assert room.hints("running/") == []

    def test_a_hint_of_a_claim_that_another_made_goes(self, room: Room) -> None:
        (ref,) = room.add("a")
        claim = room.claim("w1")
        room.bucket.write(Running("w0", ref, 1).key, b"")  # w0 died before it learned that it was late
        room.sweep()
        assert room.hints("running/") == [Running("w1", ref, 1).key]
        assert room.store.view(ref).seq == claim.seq

    def test_a_hint_of_a_job_that_is_gone_goes(self, room: Room) -> None:
        room.bucket.write(Running("w0", JobRef("a", "0" * 32), 3).key, b"")
        room.sweep()
        assert room.hints("running/") == []


class TestAnnounced:
    def announced(self, room: Room) -> JobRef:
        """A job that a worker was about to claim when it vanished."""
        (ref,) = room.add("a")
        room.beat("w0")
        room.bucket.write(Running("w0", ref, 1).key, b"")
        return ref

    def test_a_claim_that_never_came_does_not_hold_up_its_tenant(self, room: Room) -> None:
        ref = self.announced(room)
        room.tenant("a", cap=1, outputs=("s3://films/",))
        assert Scheduler(room.of("w1")).next(alone=True) is None  # it counts as running
        room.clock.passed += TAKEOVER_S + 2
        room.sweep()
        assert room.hints("running/") == []
        claim = next(room.claims(Scheduler(room.of("w1")), 5))
        assert (claim.ref, claim.seq) == (ref, 2)

    def test_whoever_announced_it_comes_too_late_then(self, room: Room) -> None:
        ref = self.announced(room)
        slow, view = Scheduler(room.of("w0")), room.store.view(ref)
        marker = Marker.parse(room.hints("queue/")[0])
        assert marker is not None
        room.clock.passed += TAKEOVER_S + 2
        room.sweep()
        assert slow.claim(marker, view) is None
        assert room.hints("running/") == []
        assert room.kinds(ref) == ["queued"]

    def test_the_job_is_not_lost_when_the_sweeper_dies_just_then(self, room: Room) -> None:
        ref = self.announced(room)
        room.clock.passed += TAKEOVER_S + 2

        def die(op: Op, key: str) -> None:
            if ref.log(1) in room.bucket.objects:
                raise Unavailable("the sweeper is no more")

        room.before = die
        with pytest.raises(Unavailable):
            room.sweep("s1")
        room.before = lambda op, key: None
        room.bucket.remove(
            Running("w0", ref, 1).key
        )  # its owner wakes up, finds the number taken, and goes on
        for key in room.hints("queue/"):
            room.bucket.remove(key)  # overtaken by the log: whoever meets it takes it away
        room.sweep("s2")
        assert room.hints("queue/") == [Marker(room.state(ref).rank, ref, 1).key]
        assert room.hints("running/") == []

    def test_a_wish_that_its_user_did_not_live_to_see_done_is_done(self, room: Room) -> None:
        (ref,) = room.add("a")
        room.store.wish(ref, 0, "stop", {"how": "cancel"})
        room.bucket.write(Running("ann", ref, 1).key, b"")
        room.sweep()
        assert room.state(ref).state == "cancelled"
        assert room.hints("running/") == []

    def test_a_worker_that_lives_may_take_its_time(self, room: Room) -> None:
        ref = self.announced(room)
        room.clock.passed += TAKEOVER_S / 2
        room.sweep()
        assert room.store.view(ref).seq == 0
        assert room.hints("running/") == [Running("w0", ref, 1).key]


class TestStandingStill:
    def live(self, room: Room, seconds: float, *claims: Claim, still: bool) -> None:
        """The worker beats, and sweepers sweep, for so long."""
        began = room.clock.passed
        while room.clock.passed < began + seconds:
            room.clock.passed += 10
            room.beat("w1", *claims, still_s=room.clock.passed - began if still else 0.0)
            room.sweep()

    def test_a_job_without_progress_is_taken_from_a_worker_that_lives(self, room: Room) -> None:
        (ref,) = room.add("a")
        claim = room.claim()
        self.live(room, STALL_S - 20, claim, still=True)
        assert room.kinds(ref) == ["claimed"]
        self.live(room, STALL_S + 20, claim, still=True)
        assert room.kinds(ref) == ["claimed", "lost"]

    def test_one_with_progress_is_not_however_long_it_takes(self, room: Room) -> None:
        (ref,) = room.add("a")
        self.live(room, 3 * STALL_S, room.claim(), still=False)
        assert room.kinds(ref) == ["claimed"]

    def test_a_claim_its_worker_does_not_know_of_is_taken(self, room: Room) -> None:
        (ref,) = room.add("a")
        room.claim()
        self.live(room, STALL_S - 20, still=False)
        assert room.kinds(ref) == ["claimed"]
        self.live(room, 60, still=False)
        assert room.kinds(ref) == ["claimed", "lost"]

    def test_an_old_hint_says_nothing_about_a_young_claim(self, room: Room) -> None:
        (ref,) = room.add("a", not_before=room.clock.now() + STALL_S)
        room.beat("w1")
        room.bucket.write(Running("w1", ref, 1).key, b"")  # of a try to claim it that came to nothing
        room.clock.passed += STALL_S + 10
        room.beat("w1")
        assert room.of("w1").append(
            ref, 1, "claimed", entries.claimed(room.state(ref), "w1", room.clock.now())
        )
        room.sweep()
        assert room.kinds(ref) == ["claimed"]

    def test_a_sweeper_that_stood_still_itself_takes_nothing(self, room: Room) -> None:
        (ref,) = room.add("a")
        claim = room.claim()
        self.live(room, 50, claim, still=False)

        def sleep(op: Op, key: str) -> None:
            if key.startswith("workers/") and op == "age":
                room.before = lambda op, key: None
                room.clock.passed += 2 * STALL_S
                room.beat("w1", claim)

        room.before = sleep
        room.sweep()
        assert room.kinds(ref) == ["claimed"]


class TestLater:
    def test_jobs_go_into_the_queue_when_their_minute_has_come(self, room: Room) -> None:
        (ref,) = room.add("a", not_before=room.clock.now() + 600)
        assert (len(room.hints("later/")), room.hints("queue/")) == (1, [])
        room.clock.passed += 500
        assert room.sweep().due == 0
        room.clock.passed += 200
        assert room.sweep().due == 1
        assert (room.hints("later/"), len(room.hints("queue/"))) == ([], 1)
        assert room.claim().ref == ref

    def test_a_job_that_has_gone_on_meanwhile_does_not(self, room: Room) -> None:
        (ref,) = room.add("a", not_before=room.clock.now() + 100)
        room.store.wish(ref, 0, "stop", {"how": "suspend"})
        room.bucket.write(Marker(room.state(ref).rank, ref, 0).key, b"")
        assert Scheduler(room.of("w1")).next(alone=True) is None
        assert room.state(ref).state == "suspended"
        room.clock.passed += 300
        assert room.sweep().due == 0
        assert room.hints("later/") == []

    def test_one_without_a_job_goes_after_an_hour(self, room: Room) -> None:
        room.bucket.write(Later(minute(room.clock.now()), JobRef("a", "0" * 32), 0).key, b"")
        room.clock.passed += 200
        room.sweep()
        assert room.hints("later/")
        room.clock.passed += 3600
        room.sweep()
        assert not room.hints("later/")

    @pytest.mark.parametrize("damage", [b"{", b'{"layout": 2}'])
    def test_a_job_that_cannot_be_read_is_told_of_and_holds_up_nobody(
        self, room: Room, damage: bytes
    ) -> None:
        odd, good = (room.add("a", not_before=room.clock.now() + 10)[0] for _ in range(2))
        room.bucket.write(odd.spec, damage)
        (lost,) = room.add("a")
        room.claim()
        room.clock.passed += 200
        swept = room.sweep()
        assert (swept.due, swept.lost) == (1, 1)
        assert any(odd.id in problem for problem in swept.problems)
        assert {marker.job for key in room.hints("queue/") if (marker := Marker.parse(key))} == {good, lost}


def test_a_job_that_cannot_be_read_holds_up_no_other(room: Room) -> None:
    odd, good = room.add("a", 2)
    claims = {claim.ref: claim for claim in (room.claim("w1"), room.claim("w2"))}
    room.bucket.write(odd.log(claims[odd].seq), b"{")
    room.clock.passed += TAKEOVER_S + 2
    swept = room.sweep()
    assert swept.lost == 1
    assert room.kinds(good) == ["claimed", "lost"]
    assert len(swept.problems) == 1
    assert odd.id in swept.problems[0]


def test_a_tenant_that_was_closed_fails_by_name_not_for_ever(room: Room) -> None:
    (ref,) = room.add("a")
    room.finish(room.claim())
    room.bucket.remove(tenant_key("a"))
    room.clock.passed += TAKEOVER_S + 2
    room.sweep()
    assert room.state(ref).state == "failed"
    assert "tenant 'a' is not known" in str(room.state(ref).fault)


def test_heartbeats_of_workers_long_gone_are_removed(room: Room) -> None:
    room.add("a", 1)
    room.claim("w1")
    room.beat("w2")
    room.clock.passed += FORGOTTEN_S + 10
    room.beat("w3")
    swept = room.sweep()  # takes w1's job over, so nothing keeps its heartbeat any more
    assert swept.lost == 1
    room.sweep()
    assert room.hints("workers/") == [heartbeat("w3")]


def test_a_store_that_does_not_answer_costs_the_pass_and_nothing_else(room: Room) -> None:
    (ref,) = room.add("a")
    room.claim()
    room.clock.passed += TAKEOVER_S + 2

    def silent(op: Op, key: str) -> None:
        if key.startswith("queue/"):
            raise Unavailable("503")

    room.before = silent
    with pytest.raises(Unavailable):
        room.sweep("s1")
    room.before = lambda op, key: None
    assert room.hints("queue/") == []
    assert room.hints("running/") == [Running("w1", ref, 1).key]
    room.sweep("s2")
    assert room.hints("queue/") == [Marker(room.state(ref).rank, ref, 2).key]
    assert room.kinds(ref) == ["claimed", "lost"]


def test_of_many_workers_one_sweeps_at_a_time(room: Room) -> None:
    assert room.sweepers["s1"].due()
    assert not room.sweepers["s2"].due()
    room.clock.passed += TAKEOVER_S
    assert room.sweepers["s2"].due()
