"""What the three stages have in common: their bundle, device and threads, and how they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch

from ifmdm_core.bundle import Bundle, load_bundle
from ifmdm_core.bundle_fetch import fetch_bundle
from ifmdm_core.errors import Conflict
from serve.batches import Done
from serve.config import StageConfig
from serve.messages import Reply

if TYPE_CHECKING:
    from ifmdm_core.storage import S3Config

Value = TypeVar("Value")


@dataclass(frozen=True)
class BundleRef:
    """Where a bundle lies and what it must be; every replica fetches it on its own."""

    uri: str
    """"demo", a folder that every node sees, or s3://bucket/prefix."""
    sha256: str
    """Of its bundle.json."""


def open_bundle(uri: str, sha256: str | None = None, s3: S3Config | None = None) -> Bundle:
    """The bundle on this machine, checked file by file.

    Raises what `fetch_bundle` and `load_bundle` raise: Conflict for another digest, NotFound, BadInput, Unsupported.
    """
    if uri.startswith("s3://"):
        return fetch_bundle(uri, sha256, s3)
    bundle = load_bundle(uri)
    if sha256 is not None and bundle.digest != sha256:
        raise Conflict(
            f"the bundle {uri} has sha256 {bundle.digest}, expected {sha256}",
            fix="name what is there, or put the expected one there on every node",
        )
    return bundle


class Replica:
    """This process: one stage of one bundle on one device."""

    def __init__(self, config: StageConfig) -> None:
        torch.set_num_threads(config.threads)
        self.device = torch.device("cuda" if config.gpus else "cpu")
        self.name = _name()

    def reply(self, done: Done[Value], hit: bool | None = None) -> Reply[Value]:
        """A batch's answer to one call."""
        return Reply(done.value, done.seconds, done.waited, done.batch, self.name, hit)


def _name() -> str:
    from ray import serve
    from ray.serve.exceptions import RayServeException

    try:
        return serve.get_replica_context().replica_tag
    except RayServeException:  # in a process of its own, such as a test
        return "local"
