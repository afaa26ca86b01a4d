"""One kill at a seeded moment of a real run, and what must hold while it runs and after it was run again.

python -m tests.crash.schedules --seeds 0:20 --log docs/chaos.log
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ifmdm_core.provenance import sha256_of_file
from ifmdm_core.storage import open_storage
from pipelines.dataset.manifest import Manifest, latest
from tests.crash.ray_nodes import RayNodes, command_of, descendants
from tests.crash.reporting import arguments_of, report
from tests.talking_videos import write_talking_video

STAGES = ("clips", "features")
VICTIMS = ("worker", "driver", "node")
TIMEOUT_S = 240.0


@dataclass(frozen=True)
class Schedule:
    """What is killed, and when: after so many new files in the dataset, and a little later."""

    seed: int
    stage: str
    victim: str
    after_files: int
    delay_s: float

    @classmethod
    def draw(cls, seed: int, files: dict[str, int]) -> Schedule:
        """The schedule of a seed; `files` says how many files an undisturbed run of each stage writes."""
        chance = random.Random(seed)
        stage = chance.choice(STAGES)
        victim = VICTIMS[seed % len(VICTIMS)]
        last = max(1, round(0.8 * files[stage]))  # later kills would mostly come too late
        return cls(seed, stage, victim, chance.randrange(last), chance.uniform(0, 0.6))


class Undisturbed:
    """A dataset made without any kill: what every schedule must end with."""

    def __init__(self, room: Path, cluster: RayNodes, bundle: Path, videos: int = 10) -> None:
        self.room, self.cluster, self.bundle = room, cluster, bundle
        self.source = room / "videos"
        self.source.mkdir()
        for seed in range(videos):
            write_talking_video(self.source / f"talk-{seed:02d}.mp4", seed, 1.6 + 0.2 * (seed % 3), size=128)
        self.files: dict[str, int] = {}
        self.content: dict[str, str] = {}
        self.clips_only = room / "clips-only"
        self._make("clips", self.clips_only)
        self.whole = room / "whole"
        shutil.copytree(self.clips_only, self.whole)
        self._make("features", self.whole)

    def _make(self, stage: str, dataset: Path) -> None:
        before = len(_files(dataset))
        run = self.start(stage, dataset)
        assert run.wait(TIMEOUT_S) == 0, f"the undisturbed run of {stage} failed: {self.said(dataset)}"
        self.files[stage] = len(_files(dataset)) - before
        self.content[stage] = latest(open_storage(dataset)).content

    def start(self, stage: str, dataset: Path) -> subprocess.Popen[bytes]:
        """The command, as a user runs it."""
        command = {
            "clips": ["clips", str(self.source), str(dataset), "--shard-seconds", "4"],
            "features": [
                "features",
                str(dataset),
                "--speech",
                str(self.bundle),
                "--motion",
                str(self.bundle),
            ],
        }[stage]
        log = Path(f"{dataset}.log").open("ab")  # noqa: SIM115 (the child writes it)
        return subprocess.Popen(
            [sys.executable, "-m", "infra.cli", "data", *command, "--ray", self.cluster.address],
            env=self.cluster.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def said(self, dataset: Path) -> str:
        """The last words of the command."""
        return Path(f"{dataset}.log").read_text()[-1500:]


class Watcher:
    """Looks at the dataset all the time as a reader would: everything that is listed must be there, whole."""

    def __init__(self, dataset: Path) -> None:
        self._dataset, self._storage = dataset, open_storage(dataset)
        self.wrong: list[str] = []
        self.manifests: set[int] = set()
        self._known: dict[str, str] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.check(latest(self._storage))

    def check(self, manifest: Manifest) -> None:
        """Compare every listed file with its digest."""
        self.manifests.add(manifest.number)
        for key, ref in manifest.files().items():
            path = self._dataset / key
            if self._known.get(key) == ref.sha256:
                continue
            if not path.exists():
                self.wrong.append(f"manifest {manifest.number} lists {key}, which is not there")
            elif (found := sha256_of_file(path)) != ref.sha256:
                self.wrong.append(
                    f"manifest {manifest.number} lists {key} as {ref.sha256[:8]}, it is {found[:8]}"
                )
            else:
                self._known[key] = ref.sha256

    def _look(self) -> None:
        while not self._over.wait(0.1):
            self.check(latest(self._storage))


def execute(schedule: Schedule, base: Undisturbed) -> dict[str, object]:
    """Run the stage, kill, run again; what was seen.

    Raises AssertionError where something half-written was listed, or the end differs from the undisturbed run.
    """
    cluster = base.cluster
    dataset = base.room / f"seed-{schedule.seed}"
    if schedule.stage == "features":
        shutil.copytree(base.clips_only, dataset)
    begun = time.monotonic()
    before = len(_files(dataset))
    with Watcher(dataset) as watcher:
        run = base.start(schedule.stage, dataset)
        while run.poll() is None and len(_files(dataset)) - before < schedule.after_files:
            time.sleep(0.02)
        time.sleep(schedule.delay_s)
        killed = _kill(schedule, run, cluster)
        first = run.wait(TIMEOUT_S)
        at_kill = latest(open_storage(dataset)).number
        if schedule.victim == "node":
            cluster.add()
        reruns = 0
        while (code := base.start(schedule.stage, dataset).wait(TIMEOUT_S)) != 0:
            reruns += 1
            assert reruns < 3, f"seed {schedule.seed}: the rerun ends with {code}: {base.said(dataset)}"
    final = latest(open_storage(dataset))
    assert not watcher.wrong, f"seed {schedule.seed}: {watcher.wrong[:3]}"
    assert final.content == base.content[schedule.stage], (
        f"seed {schedule.seed}: other bytes than undisturbed"
    )
    shutil.rmtree(dataset)
    return {
        "seed": schedule.seed, "stage": schedule.stage, "victim": schedule.victim, "killed": killed,
        "after_files": schedule.after_files, "delay_s": round(schedule.delay_s, 2), "first_exit": first,
        "manifest_then": at_kill, "manifests_seen": len(watcher.manifests), "content": final.content[:12],
        "seconds": round(time.monotonic() - begun, 1),
    }  # fmt: skip


def _kill(schedule: Schedule, run: subprocess.Popen[bytes], cluster: RayNodes) -> str:
    """Kill -9 the victim; which one it was. A run that is over already is a kill that came too late."""
    if run.poll() is not None:
        return "came too late"
    if schedule.victim == "driver":
        run.send_signal(signal.SIGKILL)
        return f"driver {run.pid}"
    chance = random.Random(schedule.seed + 1)
    if schedule.victim == "node":
        number = chance.choice([n for n in range(1, len(cluster.nodes)) if cluster.nodes[n].poll() is None])
        cluster.kill(number)
        return f"node {number}"
    end = time.monotonic() + 60
    while time.monotonic() < end and run.poll() is None:
        workers = [p for n in cluster.nodes for p in descendants(n.pid) if "Worker" in command_of(p)[:24]]
        if workers:
            victim = chance.choice(sorted(workers))
            os.kill(victim, signal.SIGKILL)
            return f"worker {victim}"
        time.sleep(0.1)
    return "came too late"


def _files(dataset: Path) -> list[str]:
    return [item.key for item in open_storage(dataset).list()] if dataset.exists() else []


def run_all(seeds: range, bundle: Path) -> Iterator[dict[str, object]]:
    """Reports of the seeds' schedules, on one three-node cluster."""
    with tempfile.TemporaryDirectory(prefix="ifmdm-chaos-") as room, RayNodes(workers=2) as cluster:
        cluster.wait(3)
        base = Undisturbed(Path(room), cluster, bundle)
        for seed in seeds:
            yield execute(Schedule.draw(seed, base.files), base)


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill workers, drivers and nodes at seeded moments.")
    parser.add_argument("--bundle", type=Path, default=Path("demo"), help="model bundle of the features")
    arguments, seeds = arguments_of(parser, "0:20")
    report(seeds, run_all(seeds, arguments.bundle), "the bytes of the undisturbed run", arguments.log)


if __name__ == "__main__":
    main()
