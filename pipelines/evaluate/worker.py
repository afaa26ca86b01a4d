"""The Ray actor: an examiner of its own on some CPUs or a GPU."""

from __future__ import annotations

from typing import Any

from ifmdm_core.metrics.tables import Table
from pipelines.evaluate.examiner import ClipResult, Examiner, Setup
from pipelines.run.settings import RunSettings


class EvaluationWorker:
    """Loads the bundle and the judges once; its methods are jobs of `pipelines.run.pool.Pool`."""

    def __init__(self, setup: Setup, settings: RunSettings) -> None:
        self._examiner, self._settings = Examiner(setup), settings

    def ready(self) -> str:
        """Load everything; the node's name."""
        import ray
        import torch

        torch.set_num_threads(max(1, int(self._settings.cpus)))
        self._examiner.load()
        return f"{ray.util.get_node_ip_address()}/{ray.get_runtime_context().get_node_id()[:8]}"

    def score(self, payload: tuple[Any, ...]) -> ClipResult:
        """Rows of one clip; see `Examiner.score`."""
        return self._examiner.score(*payload)

    def measure(self, payload: tuple[Any, ...]) -> list[Table]:
        """One measuring step; see `Examiner.measure`."""
        return self._examiner.measure(*payload)


def start(setup: Setup, settings: RunSettings) -> Any:
    """An actor of it."""
    from pipelines.run.workers import start as start_actor

    return start_actor(EvaluationWorker, settings, setup)
