"""Before a pod with a Ray node ends: its work moves elsewhere, as far as there is time (the pods' preStop).

    python -m infra.kuberay.drain --deadline-s 90

Ray is told that the node goes. Serve then starts other replicas and lets those here finish their calls within their
grace; job workers give their jobs back. This returns when no actor is left on the node, or after the deadline.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from ifmdm_core.errors import Unavailable

LOOK_S = 1.0
"""Between two looks at what is left."""


def drain(deadline_s: int) -> int:
    """How many actors are left on this node in the end; 0 at once where Ray has ended already."""
    from pipelines.run.cluster import connect

    until = time.monotonic() + deadline_s
    try:
        with connect(os.environ.get("RAY_ADDRESS", "auto")) as cluster:  # KubeRay sets it
            import ray

            node = ray.get_runtime_context().get_node_id()
            _announce(cluster.address, node, deadline_s)
            while left := _actors(node):
                if time.monotonic() > until:
                    break
                time.sleep(LOOK_S)
            return left
    except Unavailable:
        return 0


def _announce(address: str, node: str, deadline_s: int) -> None:
    """Tells Ray; refused where the node drains already, which is as good."""
    words = ["--address", address, "--node-id", node, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    words += ["--reason-message", "the pod ends", "--deadline-remaining-seconds", str(deadline_s)]
    command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", *words]
    subprocess.run(command, check=False, capture_output=True)


def _actors(node: str) -> int:
    from ray.util.state import list_actors

    return len(list_actors(filters=[("node_id", "=", node), ("state", "=", "ALIVE")]))


def parser() -> argparse.ArgumentParser:
    """What it takes."""
    found = argparse.ArgumentParser(
        prog="python -m infra.kuberay.drain", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    found.add_argument("--deadline-s", type=int, required=True, metavar="N", help="seconds at most")
    return found


def main() -> None:
    """See the module."""
    left = drain(parser().parse_args().deadline_s)
    print("no actor is left on this node" if not left else f"{left} actors are left on this node")


if __name__ == "__main__":
    main()
