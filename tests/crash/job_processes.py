"""Render jobs by real processes that are stopped, killed and cut off, on an S3 that is in trouble: what must hold.

    python -m tests.crash.job_processes all --jobs 60 --log docs/chaos-job-processes.log
    python -m tests.crash.job_processes manifest --rows 1000

Workers are `ifmdm jobs work --local`, and for `ray` actors on a cluster of several nodes with Serve's stages. Figures:
from a kill until its job is claimed again and until it is published (median..longest), and frames rendered for nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ifmdm_core.storage import S3Config, s3_client
from tests.crash.job_room import CREDENTIALS, TAKEOVER_S, Room, name_of, until
from tests.crash.ray_nodes import RayNodes
from tests.crash.reporting import commit
from tests.jobs.whole.commands import WorkProcess
from tests.jobs.whole.manifests import run_manifest
from tests.s3_server import S3Server
from tests.tiny_bundle import make_tiny_bundle


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    jobs: int
    kills: int
    trouble_s: float

    def __post_init__(self) -> None:
        assert self.jobs >= 8


LONG_S = (90.0, 90.0)
"""Of speech: long enough to be stopped in the middle."""
ACTORS = {
    "JobWorker": "kill_actor",
    "ServeReplica:.*:decoder": "kill_decoder",
    "ServeReplica:.*:motion": "kill_motion",
}
"""What of Ray is killed, by its title."""
START_S = 400.0
"""Longest a cluster and its stages may take to start, on a machine that does much else."""
FULL = Plan(jobs=60, kills=4, trouble_s=60.0)
SHORT = Plan(jobs=12, kills=1, trouble_s=15.0)


def run(room: Room, plan: Plan, say: Callable[[str], None] = print) -> None:
    """All kinds of harm in turn, on one store; `plan.jobs` jobs in all."""
    third = (plan.jobs - 2) // 3
    say("a claimer is stopped past its takeover")
    paused_and_overtaken(room)
    say(f"{plan.kills} workers are killed")
    room.submit(third)
    for _ in range(plan.kills):
        room.hit(room.busy_worker(), signal.SIGKILL)
        room.start_worker()
        room.until_some_are_published(1)
    say(f"the store is in trouble for {plan.trouble_s:.0f} s")
    room.submit(third // 2)
    with room.trouble(plan.trouble_s):
        room.submit(third - third // 2)
    say("queue/ and running/ are deleted; a user deletes a video")
    room.submit(plan.jobs - len(room.jobs))
    room.busy_worker()
    room.delete_hints()
    room.until_some_are_published(1)
    room.take_away_a_video()
    room.delete_hints()
    room.wait_all(180 + 8 * plan.jobs)
    time.sleep(2 * TAKEOVER_S)  # sweeps, and a look at every job: they must not bring the video back
    room.leave()


def paused_and_overtaken(room: Room) -> None:
    """A claimer stands still, another finishes its job; the first goes on, and must notice. Leaves both at work."""
    room.start_worker()
    ref = room.submit(1, LONG_S)
    stopped = room.busy_worker()
    room.hit(stopped, signal.SIGSTOP)
    room.start_worker()
    until(lambda: room.view(ref).state.state == "published", "another worker publishes it", 240)
    before = [entry.nonce for entry in room.client.store.log(ref)]
    stopped.signal(signal.SIGCONT)
    name = name_of(stopped)
    room.submit(1, (1.0, 1.0))
    until(lambda: room.idle(name), "the one that was stopped lets go", 120)
    assert [entry.nonce for entry in room.client.store.log(ref)] == before, "a verdict after the last"
    assert stopped.lives, stopped.last_words()


def run_on_ray(room: Room, bundle: Path, jobs: int, say: Callable[[str], None] = print) -> None:
    """Actors on three nodes: workers, replicas, a node and the head are killed; another cluster goes on."""
    with RayNodes(workers=2) as cluster:
        cluster.wait(3)
        driver = start_on(room, cluster, bundle)
        room.submit(jobs // 2)
        room.until_some_are_published(1, START_S)
        for kind, how in ACTORS.items():
            say(f"kill -9 of a {kind}")
            room.kill_any(cluster, kind, how)
            room.until_some_are_published(1)
        say("kill -9 of a node")
        room.submit(jobs // 4)
        room.until_rendering()
        room.lost_with(lambda: cluster.kill(2), "kill_node")
        room.until_some_are_published(1)
        say("kill -9 of the head")
        room.submit(jobs - len(room.jobs))
        room.until_rendering()
        room.lost_with(lambda: cluster.kill(0), "kill_head")
        assert driver.wait(180) != 0, "a command whose cluster has gone says so"
    with RayNodes(workers=1) as cluster:
        cluster.wait(2)
        say("another cluster")
        driver = start_on(room, cluster, bundle, "--until-done")
        assert driver.wait(START_S + 20 * jobs) == 0, driver.last_words()
    room.wait_all(1)


def start_on(room: Room, cluster: RayNodes, bundle: Path, *more: str) -> WorkProcess:
    """`ifmdm jobs work --ray` with two workers and small stages."""
    settings = [f"model={bundle}", *(f"{stage}.cpus=0.01" for stage in ("speech", "motion", "decoder")),
                "decoder.scaling.least=2", "decoder.scaling.most=2"]  # fmt: skip
    return room.start_worker(
        "--ray", cluster.address, "--workers", "2", "--slots", "1", *more,
        *(word for setting in settings for word in ("--set", setting)),
        env={**cluster.environment, "AWS_ENDPOINT_URL": str(room.proxy.config.endpoint)},
    )  # fmt: skip


def manifest(rows: int, folder: Path) -> dict[str, object]:
    """The manifest of tests/jobs/whole/test_manifest.py with more rows; what came of it."""
    os.environ.update(CREDENTIALS)
    server = S3Server()
    try:
        config = S3Config(endpoint=server.endpoint, region="us-east-1")
        s3_client(config).create_bucket(Bucket="renders")
        began = time.monotonic()
        seen = run_manifest(rows, "s3://renders/whole", config, folder)
        return {"rows": rows, **seen, "seconds": round(time.monotonic() - began)}
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("all", "local", "ray", "manifest"))
    parser.add_argument("--jobs", type=int, default=FULL.jobs, help="of `local`; `ray` has a third of them")
    parser.add_argument("--rows", type=int, default=1000, help="of `manifest`")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path, help="write the report there as well")
    arguments = parser.parse_args()
    if arguments.log:
        arguments.log.write_text("")

    def say(text: str) -> None:
        line = f"{time.strftime('%X')} {text}"
        print(line, flush=True)
        if arguments.log:
            with arguments.log.open("a") as log:
                log.write(line + "\n")

    machine = f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    say(f"seed {arguments.seed}, commit {commit()}, {machine}")
    with tempfile.TemporaryDirectory(prefix="ifmdm-chaos-") as folder:
        bundle = make_tiny_bundle(Path(folder, "tiny"))
        if arguments.what in ("all", "local"):
            with Room(Path(folder, "local"), bundle, arguments.seed) as room:
                run(room, Plan(arguments.jobs, FULL.kills, FULL.trouble_s), say)
                say(told(room))
        if arguments.what in ("all", "ray"):
            with Room(Path(folder, "ray"), bundle, arguments.seed) as room:
                run_on_ray(room, bundle, max(8, arguments.jobs // 3), say)
                say(told(room))
        if arguments.what in ("all", "manifest"):
            say(_words(manifest(arguments.rows, Path(folder, "manifest"))))


def told(room: Room) -> str:
    """What a run showed, once everything in it has been checked."""
    figures = room.check()
    return _words({"jobs": len(room.jobs), **room.hits, "trouble_s": round(room.faulty_s), **figures.told()})


def _words(values: dict[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items())


if __name__ == "__main__":
    main()
