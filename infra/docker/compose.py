"""compose.yaml read without Docker: names and types of what is used there, references, commands, our configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.config import load_config, validate
from ifmdm_core.errors import IfmdmError, nearest
from infra.kuberay.commands import check, check_line
from infra.kuberay.faults import Fault
from serve.config import ServeConfig

SHELLS = (["/bin/sh", "-c"],)
FOREIGN = ("minio/minio",)
"""Images whose commands are not ours to check."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Build(_Strict):
    context: str
    dockerfile: str
    args: dict[str, str] = {}


class Health(_Strict):
    test: list[str]
    interval: str
    timeout: str
    retries: int


class After(_Strict):
    condition: Literal["service_started", "service_healthy", "service_completed_successfully"]


class Service(_Strict):
    image: str
    build: Build | None = None
    entrypoint: list[str] = []
    command: list[str]
    environment: dict[str, str] = {}
    volumes: list[str] = []
    ports: list[str] = []
    secrets: list[str] = []
    healthcheck: Health | None = None
    depends_on: dict[str, After] = {}
    user: str | None = None
    read_only: bool = False
    cap_drop: list[str] = []
    security_opt: list[str] = []
    tmpfs: list[str] = []
    shm_size: str | None = None
    stop_grace_period: str | None = None
    restart: Literal["no", "on-failure", "always", "unless-stopped"] = "no"


class Secret(_Strict):
    file: str


class Volume(_Strict):
    pass


class Compose(_Strict):
    name: str
    locked: dict[str, Any] = Field(alias="x-locked")
    services: dict[str, Any]
    secrets: dict[str, Secret]
    volumes: dict[str, Volume]


def compose_faults(path: Path) -> Iterator[Fault]:
    """What is wrong with the file."""
    try:
        found = validate(Compose, yaml.safe_load(path.read_text()), path.name)
    except IfmdmError as error:
        yield Fault(path.name, "", error.what, error.fix)
        return
    for name, values in found.services.items():
        try:
            service = validate(Service, values, f"services.{name}")
        except IfmdmError as error:
            yield Fault(path.name, f"services.{name}", error.what, error.fix)
            continue
        for reason, fix in _service_faults(found, service, path.parent):
            yield Fault(path.name, f"services.{name}", reason, fix)


def _service_faults(found: Compose, service: Service, folder: Path) -> Iterator[tuple[str, str]]:
    for other in service.depends_on:
        if other not in found.services:
            yield f"depends on {other!r}, which is none", nearest(other, found.services)
    for secret in service.secrets:
        if secret not in found.secrets:
            yield f"there is no secret {secret!r}", nearest(secret, found.secrets)
    for port in service.ports:
        if not port.startswith("127.0.0.1:"):
            yield f"port {port} is open to the network", f"127.0.0.1:{port}"
    for mount in service.volumes:
        source = mount.split(":")[0]
        if source.startswith("."):
            if not (folder / source).is_file():
                yield f"there is no {source!r} to mount", ""
        elif source not in found.volumes:
            yield f"there is no volume {source!r}", nearest(source, found.volumes)
    if (
        service.build is not None
        and not (folder / service.build.context / service.build.dockerfile).is_file()
    ):
        yield f"there is no {service.build.dockerfile!r}", ""
    if service.image.partition(":")[0] in FOREIGN:
        return
    if not (service.read_only and service.cap_drop == ["ALL"] and service.user == "1000:1000"):
        yield "is not locked down", "<<: *locked"
    try:
        if service.command[:2] in SHELLS:
            check_line(service.command[2].replace("exec ", ""))
        else:
            check(service.command)
        for mount in service.volumes:
            if mount.split(":")[1] == "/etc/ifmdm/serve.yaml":
                load_config(ServeConfig, folder / mount.split(":")[0])
    except IfmdmError as error:
        yield error.what, error.fix
    readers = [
        word
        for word in " ".join([*service.command, *service.environment.values()]).split()
        if "/run/secrets/" in word
    ]
    for reader in readers:
        name = reader.rpartition("/run/secrets/")[2]
        if name not in service.secrets:
            yield f"reads the secret {name!r}, which it is not given", nearest(name, service.secrets)
