"""What was started, as `stack.json` keeps it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION = 1


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Settings(_Record):
    """What was asked for when the stack was started."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    s3: bool = Field(False, description="the bucket is an S3 endpoint in memory, not a folder")
    workers: int = Field(1, ge=0, le=100, description="processes that work on render jobs")
    serve: str | None = Field(None, description="configuration file of the service; None is a laptop's")
    changes: tuple[str, ...] = Field((), description="a.b=c, settings of the service")


class Started(_Record):
    """A process of ours. Its number alone says nothing: numbers are used again."""

    pid: int
    created: float = Field(description="seconds since 1970, as the system says when it began")
    address: str = Field(description="where others reach it")


class StackState(_Record):
    """A stack that was started, all of it or in part."""

    version: Literal[1] = 1
    id: str = Field(description="which every process of it carries in its environment")
    temp: str = Field(description="folder of sockets and temporary files, removed in the end")
    settings: Settings
    ports: dict[str, int] = Field(default_factory=dict, description="by what listens there")
    services: dict[str, Started] = Field(default_factory=dict, description="in the order of their start")
