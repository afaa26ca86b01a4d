"""One attempt at one job: rendered, given a verdict in the slot after its claim, published.

The verdict's slot is the fence: of all who believe they have the job, one writes there, and the others stop.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from ifmdm_core.consent import require_consent
from ifmdm_core.errors import Conflict, Forbidden, IfmdmError, Unavailable
from ifmdm_core.storage import Storage
from ifmdm_core.uri import Uri
from jobs import entries
from jobs.entries import Fault, JobState, Kind, Video
from jobs.heartbeat import Progress
from jobs.names import Running
from jobs.rendering.contract import Halt, Rendered, Renderer, Source, Task, spent
from jobs.scheduler import Claim
from jobs.settle import settle
from jobs.store import JobStore, JobView
from jobs.tenants import Places, keep_out, read_policy

LOOK_S = 5.0
"""Seconds between two looks whether the attempt is still wanted."""
PATIENCE_S = 300.0
"""Seconds for which a store that does not answer is asked again; then the attempt is left to the sweeper."""
LEAVING_PATIENCE_S = 20.0
"""Likewise for a worker that is told to leave: whoever waits for that ends it soon."""

Value = TypeVar("Value")
Why = Literal["taken", "cancelled", "suspended", "expired", "released"]


class Stopped(Halt):
    """The attempt is not wanted any more."""

    def __init__(self, why: Why) -> None:
        super().__init__(why)
        self.why: Why = why


class Attempt:
    """One claim being worked on.

    Args:
        progress: what the worker's heartbeat says of it.
        leaving: whether the worker is to give its jobs back.
    """

    def __init__(
        self,
        store: JobStore,
        places: Places,
        renderer: Renderer,
        claim: Claim,
        progress: Progress,
        leaving: Callable[[], bool],
    ) -> None:
        self.store, self.places, self.renderer, self.claim = store, places, renderer, claim
        self.progress, self._leaving = progress, leaving
        self._looked_at = store.clock.monotonic()
        self._done: tuple[int, int] = (-1, -1)
        self._asked: tuple[int, ...] = (claim.seq - 1, claim.seq)
        """Entries after which a user may have asked to stop; the first look sees what the claim just missed."""

    def run(self) -> None:
        """The attempt to its end; the verdict and what follows are in the store afterwards.

        Raises Unavailable where the store did not answer for PATIENCE_S: the sweeper does the rest.
        """
        state = self.claim.state
        try:
            with self.renderer.render(self._task(), self._report) as rendered:
                video = self._keep(rendered)
                self._verdict(
                    "done", entries.done(state, video, dict(rendered.busy_s), self._now()), rendered.path
                )
        except Stopped as stop:
            self._stopped(stop.why, spent(stop))
        except IfmdmError as error:
            self._failed(error, spent(error))
        except Exception as error:  # a fault of ours; the job says which
            ours = IfmdmError(
                f"{type(error).__name__}: {error}", fix="this is a bug of ifmdm; see the job's log"
            )
            self._failed(ours, spent(error))

    def _task(self) -> Task:
        """What is rendered, checked against what the tenant may do today. Raises Forbidden, BadInput."""
        record, store = self.claim.record, self.store
        job, policy = record.job, self._patiently(lambda: read_policy(store.storage, record.tenant))
        # Submitting has checked all of it; but who may write the job's record need not have come that way.
        require_consent(job.consent, policy.consent == "required")
        keep_out(store.storage.root, record.tenant, job.output, "output")
        output, key = self.places.at(job.output, policy.outputs, "output")
        if job.if_exists == "fail":
            self._require_room(output, key)
        sources = {}
        for field, uri in (("portrait", job.portrait), ("audio", job.audio)):
            keep_out(store.storage.root, record.tenant, uri, field)
            storage, key = self.places.at(uri, policy.inputs, field)
            sources[field] = Source(Uri.parse(uri), record.inputs[field].etag, storage, key)
        epoch = self.claim.state.epoch
        return Task(
            tenant=record.tenant, id=record.id, epoch=epoch, portrait=sources["portrait"], audio=sources["audio"],
            controls=job.controls, bundle_uri=record.bundle_uri, bundle_sha256=record.bundle, consent=job.consent,
            storage=store.storage, folder=record.ref.attempt(epoch),
            earlier=tuple(record.ref.attempt(e) for e in range(epoch - 1, 0, -1)),
        )  # fmt: skip

    def _require_room(self, output: Storage, key: str) -> None:
        """Raises Conflict for a video that could not be published: better now than after the work."""
        with contextlib.suppress(Forbidden):  # who may only write there cannot know
            if self._patiently(lambda: output.info(key)) is not None:
                raise Conflict(
                    f"output {self.claim.record.job.output} holds something else",
                    fix="move it, choose another output, or set if_exists to overwrite",
                )

    def _report(self, frames: int, total: int) -> None:
        """Progress; raises Stopped when the attempt is not wanted any more."""
        if (frames, total) != self._done:
            self._done = (frames, total)
            self.progress.step(frames, total)
        if self._leaving():
            raise Stopped("released")
        deadline = self.claim.record.job.deadline
        if deadline is not None and self._now() > deadline:
            raise Stopped("expired")
        if self.store.clock.monotonic() - self._looked_at >= LOOK_S:
            self._looked_at = self.store.clock.monotonic()
            self._look()

    def _look(self) -> None:
        storage, ref, seq = self.store.storage, self.claim.ref, self.claim.seq
        try:
            if storage.info(ref.log(seq + 1)) is not None or storage.info(ref.final) is not None:
                raise Stopped("taken")
            for asked in self._asked:
                if storage.info(ref.wish(asked, "stop")) is not None:
                    how = self.store.read_wish(ref, asked, "stop").get("how")
                    raise Stopped("suspended" if how == "suspend" else "cancelled")
            self._asked = (seq,)
        except Unavailable:
            pass  # the verdict's slot decides in the end; another look in a while

    def _keep(self, rendered: Rendered) -> Video:
        """The video in the attempt's folder."""
        epoch = self.claim.state.epoch
        key = f"{self.claim.ref.attempt(epoch)}/video.mp4"
        self._patiently(lambda: self.store.storage.upload(key, rendered.path))
        return Video(
            epoch=epoch, key=key, sha256=rendered.sha256, size=rendered.size, frames=rendered.frames, fps=rendered.fps
        )  # fmt: skip

    def _stopped(self, why: Why, busy_s: dict[str, float]) -> None:
        state, at = self.claim.state, self._now()
        if why == "taken":
            self._let_go()
        elif why == "released":
            self._verdict("released", entries.released(state, self.progress.frames, busy_s, at))
        else:
            if why == "expired":
                fault = Fault(
                    kind="Expired", outcome="expired", what=f"its deadline {self.claim.record.job.deadline:.0f} passed",
                    fix="ifmdm jobs retry after submitting with a later deadline",
                )  # fmt: skip
                state = state.model_copy(update={"fault": fault})
            self._verdict(why, entries.stopped(state, why, at, busy_s))

    def _failed(self, error: IfmdmError, busy_s: dict[str, float]) -> None:
        record = self.claim.record
        after = entries.failed(
            self.claim.state,
            Fault.of(error),
            record.job.max_attempts,
            self.progress.frames,
            busy_s,
            self._now(),
        )
        self._verdict("failed", after)

    def _verdict(self, kind: Kind, after: JobState, local: Path | None = None) -> None:
        """Writes it, if nobody has, then does what follows."""
        ref, seq = self.claim.ref, self.claim.seq + 1
        if self._patiently(lambda: self.store.append(ref, seq, kind, after)):
            self._follow(JobView(ref, seq, after, frozenset(), False, self.claim.record, None), local)
        else:
            self._let_go(local)

    def _let_go(self, local: Path | None = None) -> None:
        """What follows from the log as others have left it."""
        self._follow(self._patiently(lambda: self.store.view(self.claim.ref)), local)

    def _follow(self, view: JobView, local: Path | None) -> None:
        """What follows from the job's last entry; our hint goes with it."""
        hint = Running(self.store.by, self.claim.ref, self.claim.seq)
        ours = view.state.video is not None and view.state.video.epoch == self.claim.state.epoch
        view = self._patiently(lambda: settle(self.store, self.places, view, hint, local if ours else None))
        if view.state.state == "running" and view.seq > self.claim.seq:
            self._patiently(
                lambda: self.store.storage.delete(hint.key)
            )  # another's claim, with a hint of its own

    def _patiently(self, do: Callable[[], Value]) -> Value:
        """`do()`, again and again while the store does not answer. Raises Unavailable in the end."""
        clock, pause = self.store.clock, 0.5
        began = clock.monotonic()
        while True:
            try:
                return do()
            except Unavailable:
                if clock.monotonic() - began > (LEAVING_PATIENCE_S if self._leaving() else PATIENCE_S):
                    raise
            clock.sleep(pause * clock.chance.uniform(0.5, 1.5))
            pause = min(20.0, 2 * pause)

    def _now(self) -> float:
        return self.store.clock.now()
