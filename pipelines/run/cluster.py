"""Joining a Ray cluster, or starting one on this machine, and leaving it again.

On a cluster, every node needs this package and its extras installed, and access to the same storage. The driver's
AWS_* variables travel with the job (whoever may look at the cluster's jobs can read them); without any, each node
uses its own role or profile files. Nodes that were started with a token need the same one here
(RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN); one started with RAY_AUTH_MODE=disabled needs that here too.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ifmdm_core.errors import BadInput, IfmdmError, Unavailable

NAMESPACE = "ifmdm"
"""Of named actors: jobs of one cluster see each other's."""
OBJECT_STORE_BYTES = 256 << 20
"""Of a local cluster: results are records of a few kilobytes; frames and shards never cross it."""

STARTS = 3
"""Tries to start a local cluster."""
CONNECT_S = 10.0
"""Longest wait for the head node's port."""


@dataclass(frozen=True)
class Cluster:
    """What there is to work with."""

    address: str
    """host:port of the head node"""
    local: bool
    """started by us, and ended with us"""
    nodes: int
    cpus: float
    gpus: float


@contextlib.contextmanager
def connect(address: str | None = None, cpus: int | None = None) -> Iterator[Cluster]:
    """A Ray cluster for the duration of the block.

    Args:
        address: "auto" or host:port of a running cluster; None starts one on this machine.
        cpus: cores of a local cluster; all of the machine by default.

    Raises:
        Unavailable: no cluster answers there.
        BadInput: `cpus` below 1, or given for a cluster that is already running; another version runs there.
    """
    if cpus is not None and (cpus < 1 or address is not None):
        raise BadInput(
            f"cpus is {cpus}" + (f" for the running cluster {address!r}" if address is not None else ""),
            fix="give at least 1, and only for a local cluster",
        )
    import ray

    joined = ray.is_initialized()
    if not joined:
        _start(address, cpus)
    try:
        yield _describe(address)
    finally:
        if not joined:
            ray.shutdown()


def _start(address: str | None, cpus: int | None) -> None:
    import ray

    if address is not None and address != "auto":
        _require_answer(address)
    common = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is None:
            _start_here(num_cpus=cpus, **common)
        else:
            variables = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
            ray.init(address, runtime_env={"env_vars": variables} if variables else None, **common)
    except (ConnectionError, TimeoutError) as error:
        where = f"at {address!r}" if address else "on this machine"
        raise Unavailable(
            f"no Ray cluster {where}: {error}", fix="start one: ray start --head, or give no address"
        ) from None
    except RuntimeError as error:
        if "ersion" in str(error):
            raise BadInput(f"the Ray cluster {address!r} cannot be joined: {error}") from None
        raise IfmdmError(f"Ray does not start: {error}") from error


def _start_here(**options: Any) -> None:
    """A new cluster. Ray gives its own processes 30 s, which a busy machine may exceed: it is tried again."""
    import ray

    for left in reversed(range(STARTS)):
        try:
            # "local" starts a new one even where RAY_ADDRESS or a cluster of this machine would be found.
            ray.init("local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **options)
            return
        except Exception as error:  # Ray raises this very class
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            if not left:
                raise Unavailable(
                    f"Ray did not start within {STARTS} times 30 s",
                    fix="the machine is too busy: end other work",
                ) from None


def _require_answer(address: str) -> None:
    """Ray itself tries a dead address for minutes, and then ends the process."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise BadInput(f"cluster address {address!r} is not host:port", fix="give host:port or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise Unavailable(
            f"no Ray cluster at {address!r}: {error}", fix="check host and port (6379 by default)"
        ) from None


def _describe(address: str | None) -> Cluster:
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    resources = ray.cluster_resources()
    return Cluster(
        address=ray.get_runtime_context().gcs_address,
        local=address is None,
        nodes=len(alive),
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
    )
