"""Trainings of stage 2 by two workers on different hosts: data and checkpoints on S3, figures in MLflow."""

from __future__ import annotations

import json

from pipelines.training.attempts import Attempt
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.result import read_result
from pipelines.training.run import RunFolder
from tests.cluster.hosts.place import Place
from tests.cluster.hosts.steps import Cut, Step, run

STEPS = 60


class Training:
    """Trainings on one dataset, all with the same seed.

    Args:
        dataset: its URI.
        bundle: whose encoders made its features.
    """

    def __init__(self, place: Place, dataset: str, bundle: str) -> None:
        self._place = place
        self._config = place.folder / "motion.json"
        self._config.write_text(
            json.dumps(
                {
                    "data": {"dataset": dataset, "batch": 16, "threads": 1, "split": None, "validation_split": None},
                    "model": {"preset": "demo", "width": 96, "depth": 2},
                    "reference": bundle,
                    "fit": {"steps": STEPS, "checkpoint_steps": 10, "log_steps": 2},
                    "workers": {"count": 2},
                    "runs": "s3://renders/runs",
                    "tracking": {"uri": place.mlflow.uri, "flush_s": 1, "patience_s": 60, "system_metrics": False},
                }
            )
        )  # fmt: skip

    def train(self, name: str, cut: Cut | None = None) -> dict[str, object]:
        """A run of that name; what was seen of the cut."""
        self._place.mlflow.start()
        more = ("--ray", self._place.ray.address)
        step = Step(
            f"train-{name}",
            ("train", "motion", str(self._config), "--name", name, *more),
            ("train", "resume", f"s3://renders/runs/{name}", "--force", *more),
            lambda: self._step(name),
            STEPS,
            "RayTrainWorker",
        )
        return run(self._place, step, cut)

    def weights(self, name: str) -> dict[str, str]:
        """sha256 of each file of its result."""
        found = read_result(self._folder(name))
        assert found is not None, f"{name} has no result"
        return found.sha256

    def losses(self, name: str) -> dict[int, float]:
        """By step, from MLflow's database. Raises AssertionError where a step is missing or there twice."""
        (run_id,) = self._place.mlflow.runs(self._folder(name).record().train_id)
        for key, counts in self._place.mlflow.steps(run_id).items():
            assert dict(counts) == dict.fromkeys(range(1, STEPS + 1), 1), f"{name}: {key}: {counts}"
        query = "select step, value from metrics where run_uuid = ? and key = 'train/loss'"
        found = dict(self._place.mlflow.rows(query, run_id))
        assert len(found) == STEPS, sorted(found)
        return found

    def _folder(self, name: str) -> RunFolder:
        return RunFolder.at(f"s3://renders/runs/{name}", self._place.s3)

    def _step(self, name: str) -> int:
        """How far it is, by what its workers told and what they kept."""
        storage = self._folder(name).storage
        attempt = Attempt.last(storage)
        told = (attempt.told() if attempt else None) or {"step": 0}
        return max(int(told["step"]), *Checkpoints(storage).steps(), 0)
