"""Tasks and who does them: this process, or a pool of Ray actors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ifmdm_core.errors import IfmdmError
from pipelines.evaluate.examiner import Examiner, Setup
from pipelines.run.settings import RunSettings


@dataclass(frozen=True)
class Task:
    """A call of an examiner's method."""

    name: str
    method: Literal["score", "measure"]
    payload: tuple[Any, ...]
    seconds: float
    """of video that is rendered and looked at"""


Done = tuple[Task, Any, IfmdmError | None]


def worked(tasks: Sequence[Task], setup: Setup, ray: RunSettings | None) -> Iterator[Done]:
    """Every task with its value, or with the fault of its input, as they come.

    Raises:
        IfmdmError: faults of the machine, the store or the bundle.
    """
    if not tasks:
        return
    for task, value, error in _here(tasks, setup) if ray is None else _on_ray(tasks, setup, ray):
        if error is not None and not (isinstance(error, IfmdmError) and error.job == "bad_input"):
            raise error
        yield task, value, error


def _here(tasks: Sequence[Task], setup: Setup) -> Iterator[tuple[Task, Any, Exception | None]]:
    examiner = Examiner(setup)
    examiner.load()
    for task in tasks:
        try:
            yield task, getattr(examiner, task.method)(*task.payload), None
        except IfmdmError as error:
            yield task, None, error


def _on_ray(
    tasks: Sequence[Task], setup: Setup, settings: RunSettings
) -> Iterator[tuple[Task, Any, Exception | None]]:
    from pipelines.evaluate.worker import start
    from pipelines.run.cluster import connect
    from pipelines.run.pool import Job, Pool

    by_name = {task.name: task for task in tasks}
    with connect(settings.address) as cluster:
        size = min(len(tasks), settings.size(cluster.cpus, cluster.gpus))
        with Pool(lambda: start(setup, settings), size) as pool:
            jobs = [Job(t.name, t.method, t.payload, t.seconds, settings.deadline(t.seconds)) for t in tasks]
            for outcome in pool.run(jobs):
                yield by_name[outcome.job.name], outcome.value, outcome.error
