"""Bringing a stack up: what is missing or dead is started, and what depends on that; side by side where it can."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from ifmdm_core.errors import Unavailable
from infra.stack import ports
from infra.stack.ending import end_services, end_stack
from infra.stack.home import Home
from infra.stack.look import look, look_at
from infra.stack.place import Place
from infra.stack.prepare import make_job_store, make_temp, make_token, write_serve_config
from infra.stack.processes import created, kill_marked, spawn
from infra.stack.room import free_memory_mb, require_disk, require_memory
from infra.stack.services import Service, services_of
from infra.stack.settings import Asked, require_packages, serve_config
from infra.stack.state import StackState, Started
from infra.stack.telling import Teller, telling

STARTS = 3
"""Tries to start a service that gives up on a busy machine."""
PATIENCE_S = 20.0
"""For a service that runs and does not answer, before it is started anew."""
POLL_S = 0.1
TAIL_LINES = 15
"""Of the log of a service that did not start."""


class NotStarted(Unavailable):
    """A service did not start; `tail` is the end of its log."""

    def __init__(self, what: str, *, fix: str = "", tail: str = "") -> None:
        super().__init__(what, fix=fix)
        self.tail = tail


@dataclass(frozen=True)
class Plan:
    """What has to be started."""

    place: Place
    missing: tuple[Service, ...]
    fresh: bool
    """Nothing of it runs yet, nothing is written."""


@dataclass
class _Turn:
    """One start: what its threads share."""

    place: Place
    teller: Teller
    over: threading.Event = field(default_factory=threading.Event)
    writing: threading.Lock = field(default_factory=threading.Lock)
    ready: dict[str, threading.Event] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)


def plan(home: Home, asked: Asked) -> Plan:
    """What `up` would start; changes nothing.

    Raises what is wrong with the settings; Conflict where another stack would be needed; Unavailable, DiskFull where
    the machine has no room.
    """
    before = home.read()
    runs = before is not None and bool(before.services)
    settings = asked.over(before.settings if before else None, runs)
    state = before.model_copy(deep=True, update={"settings": settings}) if before else None
    if state is None:
        state = StackState(id=uuid.uuid4().hex, temp="", settings=settings)
    place = Place(home, state, serve_config(home, settings))
    services = services_of(place)
    missing = _missing(place, services)
    require_packages(name for service in missing for name in service.packages)
    require_memory({service.name: service.memory_mb for service in missing}, free_memory_mb())
    if "serve" not in place.state.services:
        _require_port(place, [service.name for service in missing])
    return Plan(place, tuple(missing), before is None)


def up(home: Home, asked: Asked, here: Path) -> Place:
    """Brings up what is missing; when it returns, all of it is well.

    Args:
        here: folder that jobs may read and write beside the bucket.

    Raises as `plan`; NotStarted; Busy where another command is at work on this stack. Whatever stops it, what it had
    started by then is ended.
    """
    with home.locked():
        todo = plan(home, asked)
        if todo.missing:
            _start(home, todo, here)
        return todo.place


def _start(home: Home, todo: Plan, here: Path) -> None:
    place, state = todo.place, todo.place.state
    names = [service.name for service in todo.missing]
    home.make()
    if todo.fresh or not Path(state.temp).is_dir():  # the machine was started anew
        state.temp = str(make_temp())
    try:
        require_disk(home.folder, Path(state.temp))
        home.write(state)  # from here on `down` knows the mark, whatever becomes of this process
        end_services(home, state, names)
        _require_port(place, names)
        _choose_ports(state, todo.missing)
        make_token(home)
        write_serve_config(place)
        home.write(state)
        with telling(names) as teller:
            _run(_Turn(place, teller), todo.missing, here)
    except BaseException:
        if not set(state.services) - set(names):
            end_stack(home, state)
        raise


def _run(turn: _Turn, missing: Iterable[Service], here: Path) -> None:
    services = list(missing)
    turn.ready = {service.name: threading.Event() for service in services}
    with ThreadPoolExecutor(len(services)) as threads:
        futures = [threads.submit(_bring_up, turn, service, here) for service in services]
        try:
            _until_done(futures)
        except BaseException:
            turn.over.set()
            wait(futures)
            end_services(turn.place.home, turn.place.state, turn.begun)
            raise


def _until_done(futures: list[Future[None]]) -> None:
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    for future in done:
        future.result()


def _bring_up(turn: _Turn, service: Service, here: Path) -> None:
    for name in (*service.needs, *service.after):
        if name in turn.ready:
            while not turn.ready[name].wait(POLL_S):
                if turn.over.is_set():
                    return
    if turn.over.is_set():
        return
    place = turn.place
    if service.name == "serve":
        make_job_store(place, here)
    turn.teller.begin(service.name, f"starting {service.title}")
    for left in reversed(range(STARTS)):
        _spawn(turn, service)
        try:
            _wait_ready(turn, service)
            break
        except NotStarted as error:
            if not left or service.again_after is None or service.again_after not in error.tail:
                turn.teller.failed(service.name, error.what)
                raise
            kill_marked(place.state.id, [service.name])
    if turn.over.is_set():
        return
    with turn.writing:
        address = service.address(place)
        place.state.services[service.name].address = address
        place.home.write(place.state)
    turn.ready[service.name].set()
    turn.teller.done(service.name, address)


def _spawn(turn: _Turn, service: Service) -> None:
    place, name = turn.place, service.name
    with turn.writing:
        environment = {**place.environment(name), **service.variables}
        process = spawn(service.command(place), place.home.log(name), environment, place.temp)
        turn.begun.append(name)
        place.state.services[name] = Started(pid=process.pid, created=created(process.pid), address="")
        place.home.write(place.state)


def _wait_ready(turn: _Turn, service: Service) -> None:
    log, began, last = turn.place.home.log(service.name), time.monotonic(), ""
    while not turn.over.is_set():
        seen = look(turn.place, service)
        if seen.health == "ready":
            return
        if seen.health == "dead":
            raise NotStarted(
                f"{service.name} did not start: {seen.why}", fix=f"its log is {log}", tail=tail_of(log)
            )
        if time.monotonic() - began > service.start_s:
            raise NotStarted(
                f"{service.name} was not ready after {service.start_s:.0f} s: {seen.why}",
                fix=f"its log is {log}; end other work on this machine",
                tail=tail_of(log),
            )
        said = tail_of(log, 1)
        if said != last:
            turn.teller.note(service.name, said)
            last = said
        turn.over.wait(POLL_S)


def tail_of(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 20_000))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def _missing(place: Place, services: list[Service]) -> list[Service]:
    """What is not well, and what depends on it; who only does not answer right now is given a while."""
    until = time.monotonic() + PATIENCE_S
    looks = look_at(place, services)
    while "ill" in {seen.health for seen in looks.values()} and time.monotonic() < until:
        time.sleep(POLL_S)
        looks = look_at(place, services)
    bad: set[str] = set()
    for service in services:  # each stands after what it needs
        if looks[service.name].health != "ready" or bad & set(service.needs):
            bad.add(service.name)
    return [service for service in services if service.name in bad]


def _require_port(place: Place, names: Iterable[str]) -> None:
    """A port that was asked for is taken or nothing is; one that was only preferred may be another."""
    gateway = place.config.gateway
    if "serve" in names and "port" in gateway.model_fields_set and gateway.port:
        ports.require(gateway.port, "gateway.port")


def _choose_ports(state: StackState, services: Iterable[Service]) -> None:
    """The ports of before where they are free, else those one would like, else others."""
    wanted = {
        name: state.ports.get(name, liked) for service in services for name, liked in service.ports.items()
    }
    state.ports.update(ports.choose(wanted))
