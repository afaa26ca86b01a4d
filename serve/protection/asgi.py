"""Words of ASGI that the layers share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from serve.protection.callers import Caller

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ABORT = "ifmdm.abort"
"""Key of the scope: a function that cuts the connection at once, set by `http_server`."""


def header(scope: Scope, name: str) -> str | None:
    """The first header `name` (lower case), or None."""
    wanted = name.encode("latin-1")
    for key, value in scope["headers"]:
        if key.lower() == wanted:
            return bytes(value).decode("latin-1")
    return None


def state(scope: Scope) -> dict[str, Any]:
    """What layers tell the application about this request (`request.state` there)."""
    return cast("dict[str, Any]", scope.setdefault("state", {}))


def caller_of(scope: Scope) -> Caller:
    """Who is calling, as the access layer found out."""
    return cast("Caller", state(scope)["caller"])


def cookies(scope: Scope) -> dict[str, str]:
    """The request's cookies."""
    found: dict[str, str] = {}
    for part in (header(scope, "cookie") or "").split(";"):
        name, equals, value = part.strip().partition("=")
        if equals:
            found[name] = unquote_to_bytes(value.strip('"')).decode("utf-8", "replace")
    return found
