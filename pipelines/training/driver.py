"""Trains a run on Ray: starts workers, starts them again when some are lost, ends them when asked."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import TYPE_CHECKING, Any

from ifmdm_core.errors import BadInput, Cancelled, IfmdmError, Unavailable
from ifmdm_core.training.world import World
from pipelines.retry import with_retries
from pipelines.tracking.tracker import end_run
from pipelines.training.attempts import LEASE_S, Attempt, Repeating
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.config import WorkersConfig
from pipelines.training.process import Job, train_process
from pipelines.training.result import ResultRecord, read_result
from pipelines.training.run import RunFolder

if TYPE_CHECKING:
    from pipelines.run.cluster import Cluster
    from pipelines.training.progress import TrainingProgress

START_S = 600
"""Longest start of a group of workers before it is tried again."""
LOOK_S = 1.0
"""Between two looks of the driver at the workers' progress."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Launch:
    """Where a run is trained."""

    address: str | None = None
    """Of a Ray cluster; None starts one on this machine."""
    local: bool = False
    """In this very process, without Ray."""
    force: bool = False
    """Although another driver seems to train it."""


@contextmanager
def joined(launch: Launch, workers: WorkersConfig, say: Callable[[str], None]) -> Iterator[None]:
    """Where a training is to run is there, and has room, for the duration of the block.

    Args:
        say: told what is about to take a while.

    Raises:
        Unavailable: no cluster answers. BadInput: not enough CPUs or GPUs here.
    """
    if launch.local:
        _local_device(workers)
        yield
        return
    from pipelines.run.cluster import connect

    say(f"joining Ray at {launch.address}" if launch.address else "starting Ray on this machine")
    with connect(launch.address) as cluster:
        _require_room(workers, cluster)
        yield


def drive(run: RunFolder, job: Job, launch: Launch, progress: TrainingProgress) -> ResultRecord:
    """One attempt at a run, to its end; inside `joined`.

    Raises:
        Busy: another driver trains it. Cancelled: it was stopped after a checkpoint. Unavailable: the workers were
        lost more often than allowed. What a worker raised, e.g. Diverged.
    """
    attempt = Attempt.claim(run, force=launch.force)
    job = replace(job, attempt=attempt.number)
    ended = "failed"
    try:
        with Repeating(attempt.renew, LEASE_S), _stopping(attempt) as stopped:
            if launch.local:
                device = _local_device(job.config.workers)
                progress.say("starting to train in this process")
                train_process(job, World(), device, on_progress=progress.show, should_stop=stopped.is_set)
            else:
                _on_ray(run, job, attempt, progress, stopped)
        result = read_result(run)
        if result is None:
            newest = Checkpoints(run.storage).newest()
            ended = "stopped"
            raise Cancelled(
                f"{run.uri} was stopped"
                + (f" at step {newest.record.step}" if newest else " before a checkpoint"),
                fix=f"go on with ifmdm train resume {run.uri}",
            )
        ended = "finished"
        return result
    except Exception as error:
        if ended == "failed":
            _tell_failure(run, job, error)
        raise
    finally:
        with_retries(lambda: attempt.renew(ended=ended), "ending the attempt")


def _tell_failure(run: RunFolder, job: Job, error: Exception) -> None:
    """Workers that were killed could not tell MLflow; if it is down too, `ifmdm train sync` does."""
    try:
        end_run(run.storage, job.config.tracking, "FAILED", str(error))
    except IfmdmError as fault:
        _log.warning("%s: its failure could not be tracked: %s", run.uri, fault)


def _on_ray(
    run: RunFolder,
    job: Job,
    attempt: Attempt,
    progress: TrainingProgress,
    stopped: threading.Event,
) -> None:
    """Groups of workers until there is a result, a wish to stop, or an error."""
    lost, step = 0, -1
    while True:
        _one_group(job, progress, attempt)
        fault = attempt.fault()
        if fault is not None:
            raise fault
        if read_result(run) is not None or stopped.is_set() or attempt.asked_to_stop():
            return
        # A node was taken away: its workers wrote a checkpoint and ended. Others go on.
        newest = Checkpoints(run.storage).newest()
        lost = 0 if newest is not None and newest.record.step > step else lost + 1
        step = newest.record.step if newest else -1
        if lost > job.config.workers.failures:
            raise Unavailable(
                f"{run.uri}: nodes are taken away faster than the training gets anywhere",
                fix=f"go on with ifmdm train resume {run.uri} when they stay longer, or lower fit.checkpoint_steps",
            )


def _one_group(job: Job, progress: TrainingProgress, attempt: Attempt) -> None:
    """Ray Train's trainer in a thread, so that this one can show progress and hear signals."""
    failure: list[BaseException] = []
    workers = job.config.workers
    count = f"{workers.least}" if workers.least == workers.most else f"{workers.least} to {workers.most}"
    progress.say(f"starting {count} worker{'s' if workers.most > 1 else ''}")

    def fit() -> None:
        try:
            _fit(job)
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=fit, name="ifmdm-trainer", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(LOOK_S)
        progress.tell(attempt.told())
    if not failure:
        return
    fault = attempt.fault()
    if fault is not None:
        raise fault
    raise _explained(failure[0], job)


def _fit(job: Job) -> None:
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from pipelines.training.rendezvous import HostsTorchConfig
    from pipelines.training.worker import work

    # Ray's own 60 s are short on a busy machine, or while a node is still coming.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(START_S))
    workers = job.config.workers
    resources = {"CPU": workers.cpus}
    if workers.gpus:
        resources["GPU"] = workers.gpus
    # Ray Train keeps nothing of ours: checkpoints are committed by our own hand. Its notes go into a folder here.
    with tempfile.TemporaryDirectory(prefix="ifmdm-ray-train-", ignore_cleanup_errors=True) as notes:
        TorchTrainer(
            work,
            train_loop_config={"job": job},
            scaling_config=ScalingConfig(
                num_workers=workers.count, use_gpu=workers.gpus > 0, resources_per_worker=resources
            ),
            torch_config=HostsTorchConfig(backend="nccl" if workers.gpus else "gloo"),
            run_config=RunConfig(
                name=RunFolder.at(job.uri).name,
                storage_path=notes,
                failure_config=FailureConfig(max_failures=workers.failures),
                logging_config=LoggingConfig(log_level="ERROR"),
            ),
        ).fit()


def _explained(error: BaseException, job: Job) -> BaseException:
    """What Ray Train raised, as one of ours where it is about lost workers."""
    reasons = getattr(error, "worker_failures", None) or {}
    inner = [getattr(reason, "cause", None) or reason for reason in reasons.values()]
    ours = next((reason for reason in inner if isinstance(reason, IfmdmError)), None)
    if ours is not None:
        return ours
    text = str(inner[0] if inner else error).strip().splitlines() or [type(error).__name__]
    return Unavailable(
        f"{job.uri}: workers were lost or failed more than {job.config.workers.failures} times: {text[-1]}",
        fix=f"look at Ray's logs, then go on with ifmdm train resume {job.uri}",
    )


def _require_room(workers: WorkersConfig, cluster: Cluster) -> None:
    """Ray would wait for ever for what it does not have; an elastic cluster of a provider may still grow.

    Raises:
        BadInput: the cluster, started here, is too small.
    """
    short = [
        f"{have:g} {name} of {workers.least * each:g}"
        for name, have, each in (("CPUs", cluster.cpus, workers.cpus), ("GPUs", cluster.gpus, workers.gpus))
        if workers.least * each > have
    ]
    if short and cluster.local:
        raise BadInput(
            f"workers.count is {workers.count}, and this machine has {' and '.join(short)} that takes",
            fix="lower workers.count, workers.cpus or workers.gpus, or give the --ray address of a larger cluster",
        )


def _local_device(workers: WorkersConfig) -> str:
    import torch

    if not workers.gpus:
        return "cpu"
    if not torch.cuda.is_available():
        raise BadInput(
            f"workers.gpus is {workers.gpus:g}, and there is no GPU here", fix="--set workers.gpus=0"
        )
    return "cuda"


@contextmanager
def _stopping(attempt: Attempt) -> Iterator[threading.Event]:
    """SIGTERM and Ctrl-C become a wish to stop; a second Ctrl-C ends at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()
        # A store must not be talked to inside a signal handler.
        threading.Thread(target=attempt.ask_to_stop, daemon=True).start()

    before: dict[int, Any] = {
        number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
