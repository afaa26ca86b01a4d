"""Before a pod with a Ray node ends: its work moves elsewhere, as far as there is time (the pods' preStop).

    python -m infra.kuberay.drain --deadline-s 90

Ray is told that the node goes. Serve then starts other replicas and lets those here finish their calls within their
grace; job workers give their jobs back. This returns when no actor is left on the node, or after the deadline.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

LOOK_S = 1.0
"""Between two looks at what is left."""


def drain(deadline_s: int) -> int:
    """How many actors are left on this node in the end. Returns at once where Ray has ended already."""
    import ray
    from ray.exceptions import RayError
    from ray.util.state import list_actors

    until = time.monotonic() + deadline_s
    try:
        ray.init("auto", log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RayError, RuntimeError):
        return 0
    node = ray.get_runtime_context().get_node_id()
    subprocess.run(
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "drain-node"),
            *("--address", ray.get_runtime_context().gcs_address, "--node-id", node),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "the pod ends"),
            *("--deadline-remaining-seconds", str(deadline_s)),
        ],
        check=False,  # refused where it drains already, and then it is waited for all the same
        capture_output=True,
    )
    while True:
        left = len(list_actors(filters=[("node_id", "=", node), ("state", "=", "ALIVE")]))
        if not left or time.monotonic() > until:
            return left
        time.sleep(LOOK_S)


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
