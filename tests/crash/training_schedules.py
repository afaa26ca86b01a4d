"""One kill at a seeded step of a real training on Ray Train (worker, driver, MLflow), and what must hold after it.

python -m tests.crash.training_schedules --seeds 0:12 --log docs/chaos-training.log
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.training.attempts import Attempt
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.result import read_result
from pipelines.training.run import RunFolder
from tests.crash.ray_nodes import RayNodes, command_of, descendants
from tests.crash.reporting import arguments_of, report
from tests.mlflow_server import MlflowServer
from tests.talking_videos import write_talking_video

VICTIMS = ("worker", "driver", "mlflow")
STEPS = 80
WORKERS = 2
TIMEOUT_S = 1200.0
"""Longest a command may take; no figure of its speed, machines may be busy."""


@dataclass(frozen=True)
class Schedule:
    """What is killed, at which step, and for how long."""

    seed: int
    victim: str
    step: int
    down_s: float
    """Of MLflow."""

    @classmethod
    def draw(cls, seed: int, down_s: float) -> Schedule:
        step = random.Random(seed).randrange(1, STEPS - 10)
        return cls(seed, VICTIMS[seed % len(VICTIMS)], step, down_s)


class Room:
    """A dataset, a cluster, a real MLflow, and a training that nothing disturbed."""

    def __init__(self, room: Path, cluster: RayNodes, mlflow: MlflowServer, bundle: str) -> None:
        self.room, self.cluster, self.mlflow = room, cluster, mlflow
        videos, self.dataset = room / "videos", room / "set"
        videos.mkdir()
        for seed in range(4):
            write_talking_video(videos / f"talk-{seed}.mp4", seed, 2.4, size=128)
        self._cli("data", "clips", str(videos), str(self.dataset), "--ray", cluster.address)
        self._cli(
            "data", "features", str(self.dataset), "--speech", str(bundle), "--motion", str(bundle), "--ray",
            cluster.address,
        )  # fmt: skip
        model = {"preset": "demo", "width": 96, "depth": 2}
        self.config = room / "motion.json"
        self.config.write_text(
            json.dumps(
                {
                    "data": {
                        "dataset": str(self.dataset), "batch": 16, "threads": 1, "split": None,
                        "validation_split": None,
                    },
                    "model": model,
                    "reference": str(bundle),
                    "fit": {"steps": STEPS, "checkpoint_steps": 10, "log_steps": 2},
                    "workers": {"count": WORKERS},
                    "runs": str(room / "runs"),
                    "tracking": {"uri": mlflow.uri, "flush_s": 1, "patience_s": 60, "system_metrics": False},
                }
            )
        )  # fmt: skip
        run = self.start("undisturbed")
        assert run.wait(TIMEOUT_S) == 0, self.said("undisturbed")
        self.sha256 = self.result("undisturbed")
        self.losses = self.in_mlflow("undisturbed")

    def _cli(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "infra.cli", *arguments], env=self.cluster.environment, capture_output=True,
            text=True, timeout=TIMEOUT_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-1500:]

    def folder(self, name: str) -> RunFolder:
        return RunFolder.at(str(self.room / "runs" / name))

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """The command, as a user types it."""
        return self._start(name, "motion", str(self.config), "--name", name)

    def resume(self, name: str) -> subprocess.Popen[bytes]:
        """Likewise; --force because the one who killed the driver knows that it is dead."""
        return self._start(name, "resume", self.folder(name).uri, "--force")

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        log = (self.room / f"{name}.log").open("ab")
        return subprocess.Popen(
            [sys.executable, "-m", "infra.cli", "train", *arguments, "--ray", self.cluster.address],
            env=self.cluster.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def said(self, name: str) -> str:
        """The last words of the commands about a run."""
        return (self.room / f"{name}.log").read_text()[-2000:]

    def result(self, name: str) -> dict[str, str]:
        found = read_result(self.folder(name))
        assert found is not None, f"{name} has no result: {self.said(name)}"
        return found.sha256

    def step(self, name: str) -> int:
        """How far a run is, by what its workers told and what they kept."""
        folder = self.folder(name)
        attempt = Attempt.last(folder.storage)
        told = (attempt.told() if attempt else None) or {"step": 0}
        return max(int(told["step"]), *Checkpoints(folder.storage).steps(), 0)

    def in_mlflow(self, name: str) -> dict[int, float]:
        """Loss by step, read from MLflow's database; one run, every step once, none missing."""
        self._cli("train", "sync", self.folder(name).uri, "--patience", "60")
        (run_id,) = self.mlflow.runs(self.folder(name).record().train_id)
        figures = self.mlflow.steps(run_id)
        assert "train/loss" in figures, figures.keys()
        for key, counts in figures.items():
            assert dict(counts) == dict.fromkeys(range(1, STEPS + 1), 1), f"{name}: {key}: {counts}"
        return dict(
            self.mlflow.rows(
                "select step, value from metrics where run_uuid = ? and key = 'train/loss'", run_id
            )
        )


def execute(schedule: Schedule, room: Room) -> dict[str, object]:
    """Train, kill, go on; what was seen.

    Raises AssertionError where the weights differ from the undisturbed training's, or a step is missing or doubled.
    """
    name, begun = f"seed-{schedule.seed}", time.monotonic()
    run = room.start(name)
    end = time.monotonic() + TIMEOUT_S
    while run.poll() is None and room.step(name) < schedule.step and time.monotonic() < end:
        time.sleep(0.01)
    at = room.step(name)
    killed = _kill(schedule, run, room)
    first = run.wait(TIMEOUT_S)
    resumed = 0
    code = first
    while code != 0:
        resumed += 1
        code = room.resume(name).wait(TIMEOUT_S)
        assert code == 0 or resumed < 3, f"seed {schedule.seed}: resuming ends with {code}: {room.said(name)}"
    assert room.result(name) == room.sha256, f"seed {schedule.seed}: other weights than undisturbed"
    assert room.in_mlflow(name) == room.losses, f"seed {schedule.seed}: another curve than undisturbed"
    return {
        "seed": schedule.seed, "victim": schedule.victim, "killed": killed, "wanted_step": schedule.step,
        "at_step": at, "down_s": schedule.down_s if schedule.victim == "mlflow" else 0, "first_exit": first,
        "resumed": resumed,
        "sha256": next(iter(room.sha256.values()))[:12], "seconds": round(time.monotonic() - begun, 1),
    }  # fmt: skip


def _kill(schedule: Schedule, run: subprocess.Popen[bytes], room: Room) -> str:
    """Kill -9 the victim; which one it was."""
    if run.poll() is not None:
        return "came too late"
    if schedule.victim == "driver":
        run.send_signal(signal.SIGKILL)
        return f"driver {run.pid}"
    if schedule.victim == "mlflow":
        room.mlflow.kill()
        time.sleep(schedule.down_s)
        room.mlflow.start()
        return "mlflow"
    workers = [
        pid
        for node in room.cluster.nodes
        for pid in descendants(node.pid)
        if "RayTrainWorker" in command_of(pid)
    ]
    if not workers:
        return "came too late"
    victim = random.Random(schedule.seed).choice(sorted(workers))
    os.kill(victim, signal.SIGKILL)
    return f"worker {victim}"


def run_all(seeds: range, bundle: str, *, down_s: float = 10.0) -> Iterator[dict[str, object]]:
    """Reports of the seeds' schedules, on one cluster and one MLflow."""
    with (
        tempfile.TemporaryDirectory(prefix="ifmdm-chaos-") as room,
        RayNodes(workers=0, head_cpus=WORKERS) as cluster,
    ):
        mlflow = MlflowServer(Path(room) / "mlflow")
        mlflow.start()
        try:
            cluster.wait(1)
            base = Room(Path(room), cluster, mlflow, bundle)
            for seed in seeds:
                yield execute(Schedule.draw(seed, down_s), base)
        finally:
            mlflow.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Kill workers, drivers and MLflow at seeded steps of a training."
    )
    parser.add_argument("--bundle", default="demo", help="model bundle of the features")
    parser.add_argument("--down", type=float, default=60.0, help="seconds that MLflow is down")
    arguments, seeds = arguments_of(parser, "0:12")
    reports = run_all(seeds, arguments.bundle, down_s=arguments.down)
    report(seeds, reports, "the weights and the curve of the undisturbed training", arguments.log)


if __name__ == "__main__":
    main()
