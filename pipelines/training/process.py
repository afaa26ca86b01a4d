"""What each process of a training does, be it a Ray worker or this one alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from ifmdm_core.errors import IfmdmError
from ifmdm_core.storage import S3Config
from ifmdm_core.training.fit import Progress, fit
from ifmdm_core.training.world import World
from pipelines.retry import is_transient
from pipelines.tracking.nodes import NodeMetrics
from pipelines.tracking.spool import Spool
from pipelines.tracking.tracker import Tracker
from pipelines.training.attempts import Attempt, Repeating
from pipelines.training.config import TrainingConfig
from pipelines.training.keeper import RunKeeper
from pipelines.training.result import write_result
from pipelines.training.run import RunFolder
from pipelines.training.stage import Materials, Stage
from pipelines.training.tracked import tracked_run
from pipelines.training.watch import Watch

TICK_S = 2.0
"""Between two looks at wishes, and between two words about progress."""


@dataclass(frozen=True)
class Job:
    """A run to be trained; travels to the workers."""

    stage: Stage
    uri: str
    attempt: int
    config: TrainingConfig
    """The run's own; the number of workers may be this attempt's."""
    s3: S3Config | None = None


def train_process(
    job: Job,
    world: World,
    device: torch.device | str = "cpu",
    *,
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    node: str | None = "node-0",
) -> bool:
    """Train until the end or a wish to stop; the leader writes the result. Whether the training is finished.

    Args:
        node: under this name the machine's use is told to MLflow; None where another process of it does that.

    Errors that would come again are kept with the attempt, so that workers that are started once more end at once
    and the driver can raise them.
    """
    run = RunFolder.at(job.uri, job.s3)
    attempt = Attempt(run.storage, job.attempt)
    if attempt.fault() is not None:
        return False
    try:
        with (
            _tracker(run, job.config) if world.leads else nullcontext() as tracker,
            _node_metrics(run, job.config, node),
        ):
            return _train(job, run, attempt, world, device, tracker, on_progress, should_stop)
    except IfmdmError as error:
        if not is_transient(error):
            attempt.give_up(error)
        raise


def _train(
    job: Job,
    run: RunFolder,
    attempt: Attempt,
    world: World,
    device: torch.device | str,
    tracker: _Tracked | None,
    on_progress: Callable[[Progress], None] | None,
    should_stop: Callable[[], bool],
) -> bool:
    record, config = run.record(), job.config
    torch.set_num_threads(config.workers.threads)
    with tempfile.TemporaryDirectory(prefix="ifmdm-train-") as scratch:
        run.fetch_start(record, Path(scratch))
        materials = Materials(config, record.data, Path(scratch), job.s3)
        torch.manual_seed(config.fit.seed)
        task = job.stage.task(materials, leads=world.leads)
        source = job.stage.source(materials)
        keeper = RunKeeper(run, attempt, job.stage.keep(config), tracker.tracker if tracker else None, world)
        watch = Watch(attempt, config.fit.steps, on_progress)

        def ends() -> bool:
            asked = should_stop()  # always: it may be a question that all processes must ask together
            return asked or watch.stop.is_set()

        with Repeating(watch.tick, TICK_S) if world.leads else nullcontext():
            state = fit(
                task, source, config.fit, keeper, world=world, device=device, on_progress=watch.progress,
                should_stop=ends,
            )  # fmt: skip
        watch.tell()
        finished = state.fraction >= 1.0
        if finished and world.leads:
            write_result(run, record, job.stage, task, keeper)
        if tracker is not None:
            tracker.finished = finished
    return finished


@contextmanager
def _node_metrics(run: RunFolder, config: TrainingConfig, node: str | None) -> Iterator[None]:
    if node is None:
        yield
        return
    metrics = NodeMetrics.start(run.storage, config.tracking, node)
    try:
        yield
    finally:
        metrics.stop()


@dataclass
class _Tracked:
    """The tracker of an attempt, and how the attempt ended."""

    tracker: Tracker
    finished: bool = False


@contextmanager
def _tracker(run: RunFolder, config: TrainingConfig) -> Iterator[_Tracked]:
    """Follows the training; ends in MLflow as finished, stopped, or failed for good. A lost worker is none of these."""
    spool = Spool(run.storage)
    tracked = _Tracked(Tracker.start(tracked_run(run), config.tracking, spool))
    try:
        yield tracked
    except IfmdmError as error:
        if not is_transient(error):
            tracked.tracker.finish("FAILED", note=str(error))
        raise
    tracked.tracker.finish("FINISHED" if tracked.finished else "KILLED")
