"""The stages of a bundle as replicas on Serve; calls that get lost are made again, on another replica.

Calls are idempotent and carry all they need, so a lost one is simply repeated: its replica died, or did not answer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from ifmdm_core.errors import IfmdmError, Unavailable
from serve.messages import ChunkCall, Floats, IdentityRef, ModelFacts, MotionWindow, Reply, WindowCall

STAGES = ("speech", "motion", "decoder")
"""Deployments of an application."""
ATTEMPTS = 5
"""Tries of one call. A call that kills whatever takes it ends as many replicas, no more."""
FIRST_PAUSE_S = 0.2
"""Before the second try; doubled before each further one, give or take half."""
PATIENCE_S = 900.0
"""Longest one try may take: the wait for a replica, in its queue, and the work."""

Lost = Callable[[str, BaseException], None]
"""Told of every lost call: the stage, and how it was lost."""


class Calls:
    """Calls of one application's stages. Blocking while it is made; then for any event loop.

    Args:
        application: its name, see `application.name_of`.
        on_lost: told of every lost call.

    Raises Unavailable when there is no such application, or no Serve.
    """

    def __init__(self, application: str, on_lost: Lost | None = None) -> None:
        self.application, self._on_lost = application, on_lost
        try:
            self._handles = {name: serve.get_deployment_handle(name, application) for name in STAGES}
        except (KeyError, RayServeException) as error:
            raise Unavailable(
                f"{application} is not deployed: {_said(error)}",
                fix="start the service, or roll its model out",
            ) from None

    async def call(self, stage: str, method: str, *arguments: Any, session: str = "") -> Any:
        """The answer of some replica of `stage`; calls of one session go to the same replica while it has room.

        Raises IfmdmError: what the stage raised, or Unavailable for a call that was lost too often.
        """
        handle = self._handles[stage].options(method_name=method, session_id=session)
        pause = FIRST_PAUSE_S
        for attempt in range(1, ATTEMPTS + 1):
            response = handle.remote(*arguments)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    return await response
            except asyncio.CancelledError:
                response.cancel()  # awaiting and working are two things to Serve
                raise
            except TimeoutError:
                response.cancel()
                raise Unavailable(
                    f"the {stage} stage gave no answer in {PATIENCE_S:.0f} s",
                    fix="try again; if it stays so, look at its replicas",
                    retry_after=60.0,
                ) from None
            except (RayError, RayServeException) as error:
                _raise_own(stage, error)
                if self._on_lost is not None:
                    self._on_lost(stage, error)
                if attempt == ATTEMPTS:
                    raise Unavailable(
                        f"a call of the {stage} stage was lost {ATTEMPTS} times, last by {_said(error)}",
                        fix="try again in a minute; its replicas are being replaced",
                        retry_after=30.0,
                    ) from None
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause *= 2
        raise AssertionError("unreachable")


class ServeStages:
    """`Stages` over one application on Serve."""

    def __init__(self, calls: Calls, facts: ModelFacts) -> None:
        self.facts = facts
        self._calls = calls

    async def encode(self, samples: Floats) -> Reply[Floats]:
        """See `Stages.encode`."""
        reply: Reply[Floats] = await self._calls.call("speech", "encode", samples)
        return reply

    async def sample(self, call: WindowCall) -> Reply[MotionWindow]:
        """See `Stages.sample`."""
        reply: Reply[MotionWindow] = await self._calls.call("motion", "sample", call)
        return reply

    async def identify(self, identity: IdentityRef) -> Reply[Floats]:
        """See `Stages.identify`."""
        reply: Reply[Floats] = await self._calls.call(
            "decoder", "identify", identity, session=identity.digest
        )
        return reply

    async def decode(self, call: ChunkCall) -> Reply[bytes]:
        """See `Stages.decode`."""
        reply: Reply[bytes] = await self._calls.call("decoder", "decode", call, session=call.identity.digest)
        return reply


def _raise_own(stage: str, error: BaseException) -> None:
    """Raises what the stage itself raised; returns when the call was lost."""
    if not isinstance(error, RayTaskError):
        return
    cause = error.cause
    if isinstance(cause, IfmdmError):
        raise cause from None
    if not isinstance(cause, RayError | RayServeException):
        raise IfmdmError(f"the {stage} stage failed: {_said(cause)}") from error


def _said(error: BaseException) -> str:
    """The kind of an error and its first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
