"""How a stack is: one row for each service."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from infra.stack.place import Place
from infra.stack.processes import family, find, marked
from infra.stack.services import Look, Service, services_of

WORKER = "ray::JobWorker"
"""What a job worker's process calls itself."""
NOT_STARTED = Look("dead", "not started")


@dataclass(frozen=True)
class Row:
    """One service."""

    name: str
    title: str
    health: str
    why: str
    address: str
    pid: int | None
    up_s: float | None
    """Seconds since it was started."""
    memory_mb: float | None
    """Of it and all that it started, what is shared counted once."""
    processes: int
    log: str

    def plain(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def look_at(place: Place, services: list[Service]) -> dict[str, Look]:
    """How each of them is, all asked at the same time."""
    with ThreadPoolExecutor(len(services)) as threads:
        return dict(zip((one.name for one in services), threads.map(lambda one: look(place, one), services)))


def look(place: Place, service: Service) -> Look:
    """How it is."""
    started = place.state.services.get(service.name)
    return NOT_STARTED if started is None else service.look(place, started)


def rows(place: Place) -> list[Row]:
    """A row for each service, and one for the job workers, which are Ray's processes."""
    services = services_of(place)
    looks = look_at(place, services)
    found = [_row(place, service, looks[service.name]) for service in services]
    if place.state.settings.workers:
        found.append(_workers(place))
    return found


def _workers(place: Place) -> Row:
    wanted = place.state.settings.workers
    members = [one for one in marked(place.state.id, ["ray"]) if _title(one).startswith(WORKER)]
    enough = len(members) >= wanted
    return Row(
        name="workers",
        title=f"{wanted} on render jobs",
        health="ready" if enough else "ill",
        why="" if enough else f"{len(members)} of {wanted} run",
        address="",
        pid=None,
        up_s=None,
        memory_mb=_memory_mb(members),
        processes=len(members),
        log="",
    )


def _row(place: Place, service: Service, seen: Look) -> Row:
    started = place.state.services.get(service.name)
    process = find(started) if started is not None else None
    members = family(process) if process is not None else []
    return Row(
        name=service.name,
        title=service.title,
        health=seen.health,
        why=seen.why,
        address=started.address if started is not None else "",
        pid=started.pid if started is not None and process is not None else None,
        up_s=round(time.time() - started.created, 1) if started is not None and process is not None else None,
        memory_mb=_memory_mb(members) if members else None,
        processes=len(members),
        log=str(place.home.log(service.name)),
    )


def _memory_mb(members: list[psutil.Process]) -> float:
    total = 0
    for member in members:
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            full = member.memory_full_info()
            total += int(getattr(full, "pss", full.uss))
    return round(total / 1e6, 1)


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error, IndexError):
        return str(process.cmdline()[0])
    return ""
