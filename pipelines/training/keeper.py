"""Keeps a training in its run's storage and tells MLflow, both behind the training's back.

Order of one checkpoint: the figures of the steps it covers are durable, then its parts, then its record (the commit),
then what is not wanted any more goes. A crash between any two of them leaves a run that goes on from the newest record.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ifmdm_core.errors import Conflict
from pipelines.training.attempts import Attempt
from pipelines.training.checkpoints import Checkpoint, Checkpoints, KeepConfig
from pipelines.training.run import RunFolder

if TYPE_CHECKING:
    from ifmdm_core.training.fit import StepRecord
    from ifmdm_core.training.task import Validation
    from ifmdm_core.training.world import World
    from pipelines.tracking.tracker import Tracker


class RunKeeper:
    """A `Keeper` (see `ifmdm_core.training.fit`) on run storage; every process has one, the leader's writes.

    Args:
        attempt: checked before each commit: a later one means that this process should have ended.
        keep: with its metric and mode filled in.
        tracker: None in processes that do not lead, or where nobody follows the training.
        world: the processes; they go on from the checkpoint that the leader finds.
    """

    def __init__(
        self, run: RunFolder, attempt: Attempt, keep: KeepConfig, tracker: Tracker | None, world: World
    ) -> None:
        self.run, self.attempt, self.keep, self.tracker = run, attempt, keep, tracker
        self.checkpoints = Checkpoints(run.storage)
        self.saved: Checkpoint | None = None
        """The newest checkpoint that this process read or wrote."""
        self._world = world
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ifmdm-checkpoint")
        self._writing: Future[None] | None = None

    def load(self) -> dict[str, Any] | None:
        """The newest whole checkpoint's state; None at the beginning.

        Raises:
            Conflict: it is damaged. Unsupported, BadInput: its record cannot be read.
        """
        newest = self.checkpoints.newest() if self._world.leads else None
        step = self._world.agree(newest.record.step if newest else None)
        self.saved = newest if newest or step is None else self.checkpoints.at(step)
        self._tell_saved()  # whoever committed it may have died before it was told
        return self.checkpoints.load(self.saved) if self.saved else None

    def save(self, step: int, state: dict[str, Any], metrics: dict[str, float]) -> None:
        """Copy `state` and write it in a thread; waits for the checkpoint before this one.

        Raises:
            What writing the one before raised.
        """
        self._wait()
        copied = _copied(state)
        self._writing = self._writer.submit(self._write, step, copied, metrics)

    def record(self, records: Sequence[StepRecord]) -> None:
        if self.tracker is not None:
            self.tracker.record(records)

    def validated(self, step: int, validation: Validation) -> None:
        """Upload the files (they vanish afterwards), then tell."""
        keys = []
        for path in validation.files:
            key = f"samples/step-{step:08d}/{path.name}"
            self.run.storage.upload(key, path)
            keys.append(key)
        if self.tracker is not None:
            self.tracker.validated(step, validation.metrics, keys)

    def finish(self) -> None:
        self._wait()
        if self.tracker is not None:
            self.tracker.flush_spool()

    def _wait(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(self, step: int, state: dict[str, Any], metrics: dict[str, float]) -> None:
        if not self.attempt.is_last():
            raise Conflict(
                f"{self.run.uri}: attempt {self.attempt.number} was overtaken by a later one before step {step}",
                fix="only one driver trains a run; this one ends",
            )
        if self.tracker is not None:
            self.tracker.flush_spool()
        self.saved = self.checkpoints.write(step, state, metrics, self.attempt.number)
        self._tell_saved()
        self.checkpoints.thin_out(self.keep)

    def _tell_saved(self) -> None:
        saved = self.saved
        if saved is not None and self.tracker is not None:
            self.tracker.checkpoint(saved.record.step, f"{self.run.uri}/{saved.key}", saved.digest)


def _copied(value: Any) -> Any:
    """A nested state whose tensors are copies on the CPU: training goes on and changes the originals."""
    from torch import Tensor

    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(item) for item in value)
    return value
