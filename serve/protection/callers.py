"""Who may call: tokens by their hashes, each with a tenant, scopes and limits."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.config import load_config
from ifmdm_core.errors import IfmdmError

Scope = Literal["render", "admin", "metrics"]
LOOK_S = 2.0
"""Seconds between looks at the file's time: how long a revoked token may still work."""

_log = logging.getLogger(__name__)


class Caller(BaseModel):
    """One token: what it may do, and for whom. The token itself is nowhere, only its hash."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=100, description="for logs and metrics, such as studio-team")
    tenant: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="whose identities and files it sees"
    )
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the token, which must be long and random")
    scopes: tuple[Scope, ...] = Field(
        ("render",), description="render: the API and Studio; admin: models too"
    )
    renders: int | None = Field(
        None, ge=1, description="renders under way at once; None is up to the gateway"
    )
    per_minute: float | None = Field(None, gt=0, description="API calls a minute; None is any number")
    inputs: tuple[str, ...] = Field((), description="folders and s3:// prefixes that URIs may lie in")
    consent: Literal["optional", "required"] = Field(
        "optional", description="whether portraits need a reference to the shown person's consent"
    )

    def may(self, scope: Scope) -> bool:
        """Whether it holds `scope`; an admin holds all."""
        return scope in self.scopes or "admin" in self.scopes


class TokenFile(BaseModel):
    """The YAML file of `gateway.tokens`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: tuple[Caller, ...] = Field(description="everybody who may call")


LOCAL = Caller(name="local", tenant="default", sha256="0" * 64, scopes=("render", "admin"))
"""Whoever calls from this machine while there is no token file (demo)."""


class Callers:
    """The token file, read again when it changes; a broken change is logged and the last good one stays.

    Raises NotFound, BadInput as `load_config` while being made.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._looked = path, time.monotonic()
        self._stamp = _stamp(path)
        self._callers = load_config(TokenFile, path).tokens

    def find(self, token: str) -> Caller | None:
        """Who holds `token`. Every entry is compared, in constant time, whether one matched or not."""
        self._refresh()
        digest = token_hash(token)
        found = None
        for caller in self._callers:
            if hmac.compare_digest(caller.sha256, digest):
                found = caller
        return found

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        try:
            self._callers = load_config(TokenFile, self._path).tokens
        except IfmdmError as error:
            _log.error("the changed token file is not used: %s", error)
        self._stamp = stamp


def token_hash(token: str) -> str:
    """What the file keeps of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
