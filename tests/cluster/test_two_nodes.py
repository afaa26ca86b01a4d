"""A head and a worker node, started by `ray start` with temporary folders of their own, share one run."""

import json
import subprocess
import sys
from pathlib import Path

from tests.crash.ray_nodes import RAY, RayNodes
from tests.talking_videos import write_talking_video


def test_both_nodes_make_shards_and_ray_list_tasks_names_them(tmp_path: Path) -> None:
    source = tmp_path / "videos"
    source.mkdir()
    for seed in range(8):
        write_talking_video(source / f"{seed}.mp4", seed, 2.0, size=128)
    with RayNodes(workers=1, dashboard=True) as cluster:
        cluster.wait(2)
        command = [
            "clips",
            str(source),
            str(tmp_path / "set"),
            "--shard-seconds",
            "2",
            "--ray",
            cluster.address,
        ]
        done = subprocess.run(
            [sys.executable, "-m", "infra.cli", "data", *command],
            env=cluster.environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        summary = json.loads(done.stdout)
        assert summary["shards"] == summary["clips"] == 8
        listed = subprocess.run(
            [*RAY, "list", "tasks", f"--address={cluster.address}", "--limit=1000", "--format=json", "--detail",
             "--filter", "name=ClipWorker.build"],
            env=cluster.environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert listed.returncode == 0, listed.stderr[-2000:]
        nodes = {task["node_id"] for task in json.loads(listed.stdout)}
    shared = {name.rpartition("/")[2] for name in summary["counts"] if name.startswith("node ")}
    assert len(nodes) == 2
    assert {node[:8] for node in nodes} == shared
