"""The replicas of a deployment: which there are, and their sudden ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

WAIT_S = 120.0


def replicas(application: str, stage: str) -> list[str]:
    """Tags of the replicas whose actors live."""
    import ray

    start = f"SERVE_REPLICA::{application}#{stage}#"
    named = ray.util.list_named_actors(all_namespaces=True)
    return [actor["name"].removeprefix(start) for actor in named if actor["name"].startswith(start)]


def kill(application: str, stage: str, tag: str) -> None:
    """Ends a replica's process at once."""
    import ray

    ray.kill(ray.get_actor(f"SERVE_REPLICA::{application}#{stage}#{tag}", namespace="serve"))


def running(application: str, stage: str) -> int:
    """Replicas that Serve counts as running."""
    from ray import serve

    deployment = serve.status().applications[application].deployments[stage]
    return deployment.replica_states.get("RUNNING", 0)


def until(condition: Callable[[], Any], what: str, wait_s: float = WAIT_S) -> None:
    """Waits for a condition; fails saying `what` it waited for."""
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.2)
