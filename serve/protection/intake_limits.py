"""What a request may cost before anything is understood of it: a slot, a size, and how long its bytes take.

Slots are taken before the body is read, so a refusal costs neither side an upload. Reading has a deadline and a
patience (a trickle of bytes holds a slot no longer than that); so has writing: a reader that takes nothing for
`reader_s` is cut off, and with it its render stops.
"""

from __future__ import annotations

import asyncio
import math
import time

from ifmdm_core.errors import BadInput, Cancelled
from serve.admission import Admission, Slot
from serve.config import Limits
from serve.protection.asgi import ABORT, App, Message, Receive, Scope, Send, caller_of, header, state

MB = 1_000_000
FORM_MB = 1.0
"""MB of everything in a form that is no file, and of a request without files."""


class SlowUpload(BadInput):
    """Bytes came too slowly."""

    http_status = 408


class IntakeLimits:
    """Takes the slot of a render, and bounds reading and writing. Raises Busy, BadInput (408, 413), Cancelled."""

    def __init__(self, app: App, limits: Limits, admission: Admission, replicas: int = 1) -> None:
        self._app, self._limits, self._admission, self._replicas = app, limits, admission, replicas

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._most_bytes(scope["path"])
        length = header(scope, "content-length")
        if length is not None and length.isdecimal() and int(length) > most:
            raise _too_large(most)
        slot = self._slot(scope)
        bounded = _Bounded(scope, receive, send, self._limits, most)
        try:
            await self._app(scope, bounded.receive, bounded.send)
        finally:
            if slot is not None:
                slot.release()

    def _slot(self, scope: Scope) -> Slot | None:
        if (scope["method"], scope["path"]) != ("POST", "/v1/render"):
            return None
        caller = caller_of(scope)
        most = None if caller.renders is None else math.ceil(caller.renders / self._replicas)
        slot = self._admission.take(caller.tenant, most)
        state(scope)["slot"] = slot
        return slot

    def _most_bytes(self, path: str) -> int:
        limits = self._limits
        if path == "/v1/render":
            megabytes = limits.portrait_mb + limits.audio_mb + FORM_MB
        elif path == "/v1/identities":
            megabytes = limits.portrait_mb + FORM_MB
        elif path.startswith("/studio"):
            megabytes = max(limits.portrait_mb, limits.audio_mb) + FORM_MB
        else:
            megabytes = FORM_MB
        return round(megabytes * MB)


class _Bounded:
    """`receive` and `send` of one request, counted and timed."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: Limits, most: int) -> None:
        self._scope, self._receive, self._send, self._limits, self._most = scope, receive, send, limits, most
        self._deadline = time.monotonic() + limits.upload_s
        self._seen, self._whole = 0, False

    async def receive(self) -> Message:
        if self._whole:  # what comes now is only that the client has gone
            return await self._receive()
        left = self._deadline - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, min(self._limits.stall_s, left))):
                message = await self._receive()
        except TimeoutError:
            raise SlowUpload(
                f"the upload stalled, or took more than {self._limits.upload_s:g} s",
                fix="send it again over a faster line, or put the file into a bucket and give its s3:// URI",
            ) from None
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            if self._seen > self._most:
                raise _too_large(self._most)
            self._whole = not message.get("more_body", False)
        else:
            self._whole = True
        return message

    async def send(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._limits.reader_s):
                await self._send(message)
        except TimeoutError:
            self._scope.get(ABORT, lambda: None)()
            raise Cancelled(f"the reader took nothing for {self._limits.reader_s:g} s") from None


def _too_large(most: int) -> BadInput:
    return BadInput(
        f"the request is larger than {most / MB:g} MB",
        fix="make the picture smaller or cut the recording, or give an s3:// URI",
        too_large=True,
    )
