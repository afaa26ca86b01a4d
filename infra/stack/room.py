"""Whether this machine has what a stack needs, told before anything is started."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import psutil

from ifmdm_core.errors import DiskFull, Unavailable

DISK_MB = 500
"""Of the stack's folder and of the temporary one: logs, databases, sockets; videos come on top."""
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def free_memory_mb() -> int:
    """MB that programs can still have, of this machine or of the container."""
    free = int(psutil.virtual_memory().available)
    for limit, used in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # "max": no limit
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
    return free // 1_000_000


def require_memory(needs: Mapping[str, int], free_mb: int) -> None:
    """Args: needs: MB by service. Raises Unavailable."""
    total = sum(needs.values())
    if total > free_mb:
        parts = ", ".join(f"{name} {mb / 1000:.1f}" for name, mb in needs.items())
        raise Unavailable(
            f"not enough memory: {total / 1000:.1f} GB are needed ({parts}), {max(0, free_mb) / 1000:.1f} GB are free",
            fix="end other programs, or give the machine or container more",
        )


def require_disk(*folders: Path) -> None:
    """Raises DiskFull where one of them has no room."""
    for folder in folders:
        free = shutil.disk_usage(folder).free // 1_000_000
        if free < DISK_MB:
            raise DiskFull(
                f"{folder}: {free} MB are free, {DISK_MB} MB are needed",
                fix="free some, or choose another place with --home (temporary files: TMPDIR)",
            )
