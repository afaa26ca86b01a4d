"""What a training talks to: remembers at once, writes to run storage soon, tells MLflow when it listens."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from ifmdm_core.storage import Storage
from pipelines.tracking.entries import Checkpointed, Exported, Status, StepFigures, Validated
from pipelines.tracking.sender import Sender
from pipelines.tracking.settings import TrackingSettings
from pipelines.tracking.spool import Spool
from pipelines.tracking.tracked_run import TrackedRun

if TYPE_CHECKING:
    from ifmdm_core.training.fit import StepRecord

LONGEST_WAIT_S = 30.0
"""Between two tries to reach a server."""
_SAME_CAUSE_S = 60.0

_log = logging.getLogger(__name__)


class TrackingReport(BaseModel):
    """How far MLflow is."""

    model_config = ConfigDict(frozen=True)

    uri: str | None
    run_id: str | None
    sent: int
    """Spool files that the server has."""
    pending: int
    """Spool files that it lacks."""
    problem: str = ""
    """Why, one line."""

    @property
    def complete(self) -> bool:
        return self.pending == 0


class Tracker:
    """Of one attempt at a training; made by `start`. Only the end waits for MLflow, for a while."""

    def __init__(self, settings: TrackingSettings, spool: Spool) -> None:
        self._settings, self._spool = settings, spool
        self._sender = Sender(spool, settings) if settings.uri else None
        self._wake, self._over, self._given_up = threading.Event(), threading.Event(), threading.Event()
        self._problem = ""
        self._told: dict[str, float] = {}
        self._thread = threading.Thread(target=self._work, name="ifmdm-tracker", daemon=True)

    @classmethod
    def start(cls, run: TrackedRun, settings: TrackingSettings, spool: Spool) -> Tracker:
        """Begin, or go on after a restart; `settings` as `TrackingSettings.resolved` gives them.

        Raises:
            Unavailable, Forbidden: the run's storage fails. A server that is down raises nothing, here or later.
        """
        spool.describe(run)
        tracker = cls(settings, spool)
        spool.add([Status(time=time.time(), status="RUNNING")])
        spool.flush()
        tracker._thread.start()
        return tracker

    def record(self, records: Sequence[StepRecord]) -> None:
        """Figures of steps; steps that an earlier attempt told are passed over."""
        self._spool.add([StepFigures(time=r.time, step=r.step, values=dict(r.values)) for r in records])

    def validated(self, step: int, metrics: dict[str, float], files: Sequence[str] = ()) -> None:
        """A look at held-out data; `files` are keys in the run's storage, already written there."""
        self._spool.add([Validated(time=time.time(), step=step, values=metrics, files=tuple(files))])

    def checkpoint(self, step: int, uri: str, digest: str) -> None:
        """A checkpoint was committed; telling it again after a restart does no harm."""
        self._spool.add([Checkpointed(time=time.time(), step=step, uri=uri, sha256=digest)])

    def exported(self, step: int, uri: str, sha256: dict[str, str]) -> None:
        """The result was written; `sha256` by file."""
        self._spool.add([Exported(time=time.time(), step=step, uri=uri, sha256=sha256)])

    def flush_spool(self) -> None:
        """Everything told so far is durable when this returns: call it before a checkpoint is committed.

        Raises:
            Unavailable: the run's storage does not answer.
        """
        self._spool.flush()
        self._wake.set()

    @property
    def run_id(self) -> str | None:
        """The MLflow run, once it is known."""
        return self._sender.run_id if self._sender else None

    def finish(
        self,
        status: Literal["FINISHED", "FAILED", "KILLED"],
        patience_s: float | None = None,
        note: str = "",
    ) -> TrackingReport:
        """End the attempt: everything durable, then sent within `patience_s` (that of the settings).

        Raises:
            Unavailable: the run's storage does not answer.
        """
        self._spool.add([Status(time=time.time(), status=status, note=note)])
        self._spool.flush()
        self._over.set()
        self._wake.set()
        self._thread.join(self._settings.patience_s if patience_s is None else patience_s)
        self._given_up.set()
        return _report(self._spool, self._settings, self._sender, self._problem)

    def _work(self) -> None:
        wait = self._settings.flush_s
        failures = 0
        while True:
            self._wake.wait(wait)
            self._wake.clear()
            over = self._over.is_set()
            try:
                self._spool.flush()
                if self._sender is not None:
                    self._sender.send()
                    if over:
                        self._sender.close()
                if over:
                    return
                failures, wait, self._problem = 0, self._settings.flush_s, ""
            except Exception as error:  # whatever it is, training goes on
                failures += 1
                wait = _backoff(failures)
                self._problem = _one_line(error)
                self._tell(self._problem)
                if self._given_up.is_set():
                    return

    def _tell(self, problem: str) -> None:
        now = time.monotonic()
        if now - self._told.get(problem, -_SAME_CAUSE_S) >= _SAME_CAUSE_S:
            self._told[problem] = now
            _log.warning("tracking waits, training goes on: %s", problem)


def sync(
    storage: Storage,
    settings: TrackingSettings,
    *,
    patience_s: float = 0.0,
    sleep: Callable[[float], None] = time.sleep,
) -> TrackingReport:
    """Send what MLflow lacks of the run at `storage`, retrying for `patience_s`; for `ifmdm train sync`.

    Raises:
        NotFound: no tracked training there.
    """
    spool = Spool(storage)
    spool.run()
    if settings.uri is None:
        return _report(spool, settings, None, "no MLflow is set")
    sender, problem, failures = Sender(spool, settings), "", 0
    deadline = time.monotonic() + patience_s
    while True:
        try:
            sender.send()
            sender.close()
            problem = ""
            break
        except Exception as error:
            problem, failures = _one_line(error), failures + 1
            wait = _backoff(failures)
            if time.monotonic() + wait > deadline:
                break
            sleep(wait)
    return _report(spool, settings, sender, problem)


def end_run(
    storage: Storage,
    settings: TrackingSettings,
    status: Literal["FAILED", "KILLED"],
    note: str = "",
) -> TrackingReport:
    """End a training in MLflow whose own process could not, unless its end is told already; for drivers.

    Raises:
        NotFound: no tracked training there. Unavailable: the run's storage does not answer.
    """
    spool = Spool(storage)
    spool.run()
    if spool.status() in ("", "RUNNING"):
        spool.add([Status(time=time.time(), status=status, note=note)])
        spool.flush()
    return sync(storage, settings, patience_s=min(5.0, settings.patience_s))


def _report(spool: Spool, settings: TrackingSettings, sender: Sender | None, problem: str) -> TrackingReport:
    newest, sent = spool.newest(), sender.sent if sender else 0
    return TrackingReport(
        uri=settings.uri,
        run_id=sender.run_id if sender else None,
        sent=sent,
        pending=newest - sent,
        problem=problem if newest > sent or problem else "",
    )


def _backoff(failures: int) -> float:
    """Seconds, with jitter from a generator of its own: training's must not move."""
    return random.Random().uniform(0.5, 1.0) * min(LONGEST_WAIT_S, 2.0 ** (failures - 1))


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
