"""How workers run: what the command line, the actors on Ray and the processes of this machine agree on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ifmdm_core.storage import S3Config
from jobs.heartbeat import TAKEOVER_S
from jobs.sweeper import STALL_S
from serve.config import ServeConfig

FSCK_S = 3600.0
"""Seconds between two looks at every job of the store, by one worker or another."""


@dataclass(frozen=True)
class WorkOptions:
    """One kind of worker."""

    root: str
    """Of the job store."""
    serve: ServeConfig
    """Of the stages: their root, limits, signing; its model does not count."""
    s3: S3Config = field(default_factory=S3Config)
    slots: int = 1
    """Jobs that one worker drives at a time."""
    takeover_s: float = TAKEOVER_S
    stall_s: float = STALL_S
    fsck_s: float = FSCK_S
    """See FSCK_S; 0 never looks."""
    webhook_secret: Path | None = None
    """File with the secret that webhooks are signed with; without one they are not sent."""
    private_webhooks: bool = False
    """Whether webhooks may go to this machine and its private neighbours."""
