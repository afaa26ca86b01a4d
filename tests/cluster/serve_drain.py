"""A node is drained while a video is rendered: its replicas move, no call is lost, no frame is missing.

    python -m pytest tests/cluster/serve_drain.py

Three Ray nodes and six replicas: minutes on a small machine, so it is not part of the tests.
"""

import json
import subprocess
import sys
from pathlib import Path

from tests.crash.ray_nodes import RayNodes


def test_draining_a_node_loses_nothing(tiny_bundle: Path, portrait: Path, tmp_path: Path) -> None:
    with RayNodes(workers=2, head_cpus=0) as cluster:
        done = subprocess.run(
            [sys.executable, "-m", "tests.cluster.serve_drain_driver", cluster.address, str(tiny_bundle),
             str(tmp_path / "root"), str(portrait)],
            env={**cluster.environment, "IFMDM_CACHE": str(tmp_path / "cache")},
            capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["frames"] == 600
    assert seen["difference"] <= 1e-4
    assert seen["lost"] == []
    for stage, nodes in seen["nodes"].items():
        assert nodes, stage
        assert seen["drained"] not in nodes
