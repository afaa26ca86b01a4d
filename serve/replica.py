"""What the three stages have in common: their bundle, device and threads, and how they answer."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TypeVar

import torch

from ifmdm_core.bundle import Bundle
from ifmdm_core.bundle_fetch import fetch_bundle
from serve.batches import Done
from serve.config import StageConfig
from serve.logs import log_through_serve
from serve.messages import Reply

Value = TypeVar("Value")

LOCAL = "local"
"""The replica's name in a process without Serve."""


@dataclass(frozen=True)
class BundleRef:
    """Where a bundle lies and what it must be; every replica fetches it on its own."""

    uri: str
    """"demo", a folder that every node sees, or s3://bucket/prefix."""
    sha256: str
    """Of its bundle.json."""

    def open(self) -> Bundle:
        """The bundle on this machine, checked file by file. Raises as `fetch_bundle`."""
        return fetch_bundle(self.uri, self.sha256)


class Replica:
    """This process: one stage of one bundle on one device."""

    def __init__(self, config: StageConfig) -> None:
        torch.set_num_threads(config.threads)
        self.device = torch.device("cuda" if config.gpus else "cpu")
        self.name = _name()
        if self.name != LOCAL:
            log_through_serve(logging.WARNING)

    def reply(self, done: Done[Value], hit: bool | None = None) -> Reply[Value]:
        """A batch's answer to one call."""
        return Reply(done.value, done.seconds, done.waited, done.batch, self.name, hit)


def _name() -> str:
    from ray import serve
    from ray.serve.exceptions import RayServeException

    try:
        return serve.get_replica_context().replica_tag
    except RayServeException:  # in a process of its own, such as a test
        return LOCAL
