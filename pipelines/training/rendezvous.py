"""How the workers of a training find each other on several hosts, also where a host's name leads to loopback.

gloo listens at the address of the host's own name, which Debian's /etc/hosts makes 127.0.1.1: workers on other
hosts are told to connect to themselves. The address by which Ray knows the host is one that the others reach.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.train.torch import TorchConfig

GLOO = "GLOO_SOCKET_IFNAME"
"""Names the network interface that gloo uses; what an operator has set stays."""


@dataclass
class HostsTorchConfig(TorchConfig):
    """Ray Train's set-up of the process group, after each worker has been told its interface."""

    @property
    def backend_cls(self) -> Any:
        return _HostsBackend


class _HostsBackend(TorchConfig().backend_cls):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(name_interface)
        super().on_start(worker_group, backend_config)


def name_interface() -> None:
    """Has gloo use the interface by which Ray knows this host."""
    found = interface_of(ray.util.get_node_ip_address())
    if found is not None:
        os.environ.setdefault(GLOO, found)


def interface_of(address: str) -> str | None:
    """The network interface of this host that has an IP address; None where none has."""
    for name, entries in psutil.net_if_addrs().items():
        if any(entry.address == address for entry in entries):
            return name
    return None
