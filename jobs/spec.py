"""RenderJob: what a user asks for. Versioned, extra keys refused, checked before any GPU is spent.

{"portrait": "s3://bucket/faces/ann.jpg", "audio": "s3://bucket/speech/ann.wav", "output": "s3://bucket/out/ann.mp4"}
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ifmdm_core.config import validate
from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import IfmdmError
from ifmdm_core.uri import Uri
from jobs.names import ID_DIGITS

VERSION = 1

Label = Annotated[str, Field(max_length=200)]
_LABEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}")
_WEB = re.compile(r"https?://[^\s/]+(/\S*)?")


class RenderJob(BaseModel):
    """One render to be made, whatever happens to the machines."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: Literal[1] = Field(1, description="of this format")
    portrait: str = Field(
        min_length=1,
        max_length=2000,
        description="picture with a face: s3://… or a path of the store's machine",
    )
    portrait_etag: str | None = Field(
        None, max_length=200, description="the version that is meant; None pins the one found at submit"
    )
    audio: str = Field(
        min_length=1, max_length=2000, description="speech, any common format: s3://… or a path"
    )
    audio_etag: str | None = Field(
        None, max_length=200, description="the version that is meant; None pins the one found at submit"
    )
    output: str = Field(
        min_length=1, max_length=2000, description="where the MP4 is published: s3://… or a path"
    )
    if_exists: Literal["fail", "overwrite"] = Field(
        "fail", description="what to do where something is at `output` already"
    )
    model: str = Field(
        "demo",
        min_length=1,
        max_length=200,
        description="name of one of the tenant's models, pinned to a digest at submit",
    )
    controls: RenderControls = Field(
        default_factory=lambda: RenderControls(), description="pose, intensity, steps, seed, size, fps, …"
    )
    priority: int = Field(
        0, ge=-1000, le=1000, description="each step counts like having been queued a minute earlier"
    )
    not_before: float | None = Field(
        None, ge=0, description="seconds since 1970 (UTC) before which it is not started"
    )
    deadline: float | None = Field(
        None, ge=0, description="seconds since 1970 (UTC) after which it is given up as expired"
    )
    labels: dict[str, Label] = Field(
        default_factory=dict, description="up to 20 names and values to find jobs by"
    )
    key: str | None = Field(
        None, min_length=1, max_length=200, description="idempotency key: the same key again is the same job"
    )
    max_attempts: int = Field(
        3, ge=1, le=20, description="tries that may fail before the job is dead; lost machines do not count"
    )
    consent: str | None = Field(
        None,
        max_length=500,
        description="reference to the shown person's consent, kept in the video's record",
    )
    callback: str | None = Field(
        None, max_length=2000, description="URL that is told when the job has ended; its host must be allowed"
    )

    @field_validator("portrait", "audio", "output")
    @classmethod
    def _is_uri(cls, value: str) -> str:
        try:
            uri = Uri.parse(value)
        except IfmdmError as error:
            raise ValueError(str(error)) from None  # pydantic adds the field's name
        if not uri.name:
            raise ValueError("names a folder, not a file")
        return value

    @field_validator("output")
    @classmethod
    def _is_mp4(cls, value: str) -> str:
        if not value.lower().endswith(".mp4"):
            raise ValueError("must end in .mp4")
        return value

    @field_validator("labels")
    @classmethod
    def _label_names(cls, value: dict[str, str]) -> dict[str, str]:
        if len(value) > 20:
            raise ValueError(f"has {len(value)} names; 20 are the most")
        for name in value:
            if not _LABEL_NAME.fullmatch(name):
                raise ValueError(f"name {name!r}: use letters, digits, dots, dashes, underscores and slashes")
        return value

    @field_validator("callback")
    @classmethod
    def _web_address(cls, value: str | None) -> str | None:
        if value is not None and not _WEB.fullmatch(value):
            raise ValueError("must be an http(s) address")
        return value

    @model_validator(mode="after")
    def _times_in_order(self) -> RenderJob:
        if None not in (self.not_before, self.deadline) and self.deadline <= self.not_before:  # type: ignore[operator]
            raise ValueError(f"deadline {self.deadline} is not after not_before {self.not_before}")
        return self

    def given(self) -> dict[str, Any]:
        """The fields the user set, as plain data; what makes two jobs the same."""
        return self.model_dump(mode="json", exclude_unset=True)

    def digest(self, etags: dict[str, str]) -> str:
        """sha256 of the fields that were set and of the inputs' versions."""
        text = json.dumps({"job": self.given(), "etags": etags}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def id(self, tenant: str, etags: dict[str, str]) -> str:
        """The job's id: of its key where it has one, else of what it asks for. 32 hex digits."""
        what = ["key", self.key] if self.key is not None else ["digest", self.digest(etags)]
        return hashlib.sha256(json.dumps([tenant, *what]).encode()).hexdigest()[:ID_DIGITS]


def parse_job(values: Any, where: str = "") -> RenderJob:
    """A job from plain data. Raises BadInput naming the field, its value and what is allowed."""
    return validate(RenderJob, values, where)


def json_schema() -> dict[str, Any]:
    """JSON Schema of a job, for editors and other languages."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **RenderJob.model_json_schema()}
