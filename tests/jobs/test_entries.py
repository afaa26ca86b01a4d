"""The life of a job as its log tells it: any order of steps keeps what must hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ifmdm_core.errors import BadInput, Cancelled, Conflict, Expired, IfmdmError, NotFound, Unavailable
from jobs import entries
from jobs.entries import (
    BUG_RETRIES,
    MAX_LOSSES,
    MAX_SOLO_LOSSES,
    RETRIABLE,
    TERMINAL,
    Entry,
    Fault,
    JobRecord,
    JobState,
    Pinned,
    Video,
)
from jobs.names import rank
from jobs.spec import RenderJob

ERRORS = (
    Unavailable("no decoder"),
    NotFound("no audio"),
    BadInput("no face"),
    Conflict("changed"),
    Expired("late"),
    Cancelled("gave up"),
    IfmdmError("ours"),
)
FRAMES = st.integers(0, 300)
BUSY = st.dictionaries(
    st.sampled_from(("speech", "motion", "decoder")), st.floats(0, 1e4).map(lambda s: round(s, 3))
)
NOW = 1_800_000_000.0


def new(**values: Any) -> JobState:
    """The state of a job nobody has touched yet."""
    job = RenderJob.model_validate(
        {"portrait": "s3://faces/a.png", "audio": "s3://faces/a.wav", "output": "s3://films/a.mp4", **values}
    )
    pinned = Pinned(etag="1", size=1)
    return JobRecord(
        tenant="t", id="0" * 32, nonce="n", submitted_at=NOW, digest="d", bundle_uri="demo", bundle="1" * 64, holder=1,
        inputs={"portrait": pinned, "audio": pinned}, given=sorted(values), job=job,
    ).initial()  # fmt: skip


def video(epoch: int, frames: int = 100) -> Video:
    return Video(
        epoch=epoch, key=f"attempts/t/0/{epoch}/video.mp4", sha256="2" * 64, size=9, frames=frames, fps=25
    )


def failed(state: JobState, error: IfmdmError, max_attempts: int = 20) -> JobState:
    return entries.failed(state, Fault.of(error), max_attempts, 0, {}, NOW)


class Life(RuleBasedStateMachine):
    """Steps in any order that the states allow."""

    @initialize(priority=st.integers(-5, 5), max_attempts=st.integers(1, 20))
    def submit(self, priority: int, max_attempts: int) -> None:
        self.max_attempts = max_attempts
        self.now, self.state = NOW, new(priority=priority)
        self.before = self.state

    def step(self, after: JobState) -> None:
        self.before, self.state = self.state, after
        self.now += 1.0

    @precondition(lambda self: self.state.state == "queued")
    @rule()
    def claim(self) -> None:
        self.step(entries.claimed(self.state, "w1", self.now))
        assert self.state.epoch == self.before.epoch + 1
        assert (self.state.worker, self.state.started_at) == ("w1", self.now - 1.0)

    @precondition(lambda self: self.state.state == "running")
    @rule(frames=FRAMES, busy=BUSY)
    def finish(self, frames: int, busy: dict[str, float]) -> None:
        self.step(entries.done(self.state, video(self.state.epoch, frames), busy, self.now))
        assert self.state.fault is None
        assert self.state.video is not None

    @precondition(lambda self: self.state.state == "done")
    @rule(free=st.booleans())
    def publish(self, free: bool) -> None:
        fault = Fault.of(Conflict("something is there"))
        self.step(entries.published(self.state) if free else entries.not_published(self.state, fault))
        assert self.state.terminal

    @precondition(lambda self: self.state.state == "running")
    @rule(frames=FRAMES, busy=BUSY)
    def release(self, frames: int, busy: dict[str, float]) -> None:
        self.step(entries.released(self.state, frames, busy, self.now))
        assert self.state.state == "queued"
        assert (self.state.attempts, self.state.losses) == (self.before.attempts, self.before.losses)
        assert self.state.not_before == 0.0

    @precondition(lambda self: self.state.state == "running")
    @rule(frames=FRAMES)
    def lose(self, frames: int) -> None:
        self.step(entries.lost(self.state, frames, self.now))
        assert self.state.state in ("queued", "dead")
        assert self.state.attempts == self.before.attempts
        if frames > self.before.best_frames:  # it got further than ever: not a job that kills its workers
            assert self.state.losses == 1
        if self.state.state == "queued":
            assert self.state.solo

    @precondition(lambda self: self.state.state == "running")
    @rule(error=st.sampled_from(ERRORS), frames=FRAMES, busy=BUSY)
    def fail(self, error: IfmdmError, frames: int, busy: dict[str, float]) -> None:
        self.step(entries.failed(self.state, Fault.of(error), self.max_attempts, frames, busy, self.now))
        assert self.state.attempts == self.before.attempts + 1
        assert self.state.fault == Fault.of(error)
        if self.state.state == "queued":
            assert self.state.not_before > self.now - 1.0
            assert self.state.attempts < self.max_attempts

    @precondition(lambda self: self.state.state in ("queued", "running", "suspended"))
    @rule(how=st.sampled_from(("cancelled", "suspended", "expired")))
    def stop(self, how: Any) -> None:
        self.step(entries.stopped(self.state, how, self.now))
        assert self.state.state == how

    @precondition(lambda self: self.state.state == "suspended" or self.state.state in RETRIABLE)
    @rule()
    def take_up_again(self) -> None:
        self.step(entries.queued_again(self.state, self.now))
        clean = (self.state.attempts, self.state.losses, self.state.solo_losses, self.state.bugs)
        assert clean == (0, 0, 0, 0)
        assert not self.state.solo
        assert self.state.rank == rank(self.now - 1.0, self.state.priority)

    @precondition(lambda self: self.state.state == "queued")
    @rule(priority=st.integers(-1000, 1000))
    def reprioritise(self, priority: int) -> None:
        self.step(entries.reprioritised(self.state, priority))
        assert self.state.queued_at == self.before.queued_at
        if priority > self.before.priority:
            assert self.state.rank <= self.before.rank

    @rule(seconds=st.floats(0, 1e6))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def nothing_is_forgotten(self) -> None:
        before, state = self.before, self.state
        assert state.epoch >= before.epoch
        assert state.best_frames >= before.best_frames
        assert all(state.busy_s[name] >= seconds for name, seconds in before.busy_s.items())
        assert state.bundle == before.bundle

    @invariant()
    def what_is_given_up_says_why(self) -> None:
        if self.state.state in ("failed", "dead"):
            assert self.state.fault is not None
            assert self.state.fault.what

    @invariant()
    def nothing_is_tried_for_ever(self) -> None:
        state = self.state
        if state.state in ("queued", "running"):
            assert state.attempts < self.max_attempts
            assert state.losses < MAX_LOSSES
            assert state.solo_losses < MAX_SOLO_LOSSES
            assert state.bugs <= BUG_RETRIES
            assert state.missing <= 1

    @invariant()
    def an_entry_repeats_all_of_it(self) -> None:
        entry = Entry(seq=1, kind="queued", at=self.now, by="w1", nonce="n", state=self.state)
        assert Entry.model_validate_json(entry.model_dump_json()).state == self.state


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_terminal_states_are_where_nothing_happens_by_itself() -> None:
    assert TERMINAL > RETRIABLE
    assert "published" not in RETRIABLE  # rendered again only as another job


@pytest.mark.parametrize(
    ("error", "tries", "end"),
    [
        (BadInput("no face"), 1, "failed"),
        (Conflict("changed since"), 1, "failed"),
        (NotFound("no audio"), 2, "failed"),
        (Unavailable("no decoder"), 20, "dead"),
        (ZeroDivisionError("ours"), 3, "dead"),
        (Expired("late"), 1, "expired"),
    ],
)
def test_what_an_error_costs_is_its_class(error: Exception, tries: int, end: str) -> None:
    ours = error if isinstance(error, IfmdmError) else IfmdmError(str(error))
    state, count = new(), 0
    while not state.terminal:
        assert state.state == "queued"
        state, count = failed(entries.claimed(state, "w", NOW), ours), count + 1
    assert (count, state.state) == (tries, end)


def test_pauses_double_and_have_an_end() -> None:
    state, pauses = new(), []
    for _ in range(9):
        state = failed(entries.claimed(state, "w", NOW), Unavailable("no decoder"))
        pauses.append(state.not_before - NOW)
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600, 600]


def test_two_losses_alone_or_five_in_all_are_the_jobs_own_fault() -> None:
    state, states = new(), []
    for _ in range(3):
        state = entries.lost(entries.claimed(state, "w", NOW), 0, NOW)
        states.append((state.state, state.solo))
    assert states == [("queued", True), ("queued", True), ("dead", True)]  # the first was not alone
    assert "ran alone" in str(state.fault)


@given(frames=st.lists(st.integers(1, 5), min_size=1, max_size=30))
def test_whoever_gets_further_each_time_is_never_given_up(frames: list[int]) -> None:
    state, reached = new(), 0
    for more in frames:
        reached += more
        state = entries.lost(entries.claimed(state, "w", NOW), reached, NOW)
        assert state.state == "queued"


def test_a_step_of_priority_is_a_minute_in_the_queue() -> None:
    first, urgent = new(), new(priority=1)
    later = urgent.model_copy(update={"rank": rank(NOW + 59.0, 1)})
    latest = urgent.model_copy(update={"rank": rank(NOW + 61.0, 1)})
    assert later.rank < first.rank < latest.rank
