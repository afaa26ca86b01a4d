"""How often a token may call: a bucket each, filled at its rate."""

from __future__ import annotations

import time
from collections.abc import Callable

from ifmdm_core.errors import Busy
from serve.protection.asgi import App, Receive, Scope, Send, caller_of


class Bucket:
    """Leave for `per_minute` calls a minute, up to a minute's worth at once (at least one)."""

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._most, self._clock = per_minute / 60, max(1.0, per_minute), clock
        self._level, self._at = self._most, clock()

    def level(self) -> float:
        """Calls that may be made now."""
        now = self._clock()
        self._level = min(self._most, self._level + (now - self._at) * self._rate)
        self._at = now
        return self._level

    def full(self) -> bool:
        """Whether nothing was taken lately."""
        return self.level() >= self._most

    def take(self) -> float:
        """0 where the call may be made, else the seconds until one may."""
        if self.level() >= 1:
            self._level -= 1
            return 0.0
        return (1 - self._level) / self._rate


class Rates:
    """Raises Busy for API calls beyond the caller's `per_minute`, its share where there are several gateways.

    Args:
        replicas: gateways that share the calls.
    """

    def __init__(self, app: App, replicas: int = 1) -> None:
        self._app, self._replicas = app, replicas
        self._buckets: dict[tuple[str, float], Bucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            caller = caller_of(scope)
            if caller.per_minute is not None:
                key = caller.sha256, caller.per_minute
                bucket = self._buckets.setdefault(key, Bucket(caller.per_minute / self._replicas))
                if wait := bucket.take():
                    raise Busy(
                        f"{caller.name!r} may make {caller.per_minute:g} calls a minute",
                        fix="spread the calls",
                        retry_after=wait,
                    )
        await self._app(scope, receive, send)
