"""Renders as the gateway's surfaces see them (HTTP and Studio): inputs in, a stream of MP4 and a signed file out.

`RenderService.open` checks and prepares everything that can be refused; the `RenderStream` it gives then only renders.
It works over any `Stages`: replicas on a cluster, or networks in this process.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ifmdm_core.audit import AuditLog
from ifmdm_core.consent import Permission
from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput, IfmdmError, NotFound, nearest
from ifmdm_core.provenance import sha256_of_file, synthetic_tags
from ifmdm_core.storage import S3Config, open_storage
from serve.admission import Admission, Slot
from serve.config import ServeConfig
from serve.finished import FinishedFiles, GopSpool
from serve.flow import FlowRequest, render
from serve.identities import IdentityStore
from serve.intake import Intake
from serve.messages import IdentityRef, ModelFacts, Stages
from serve.metrics import GatewayMetrics, RenderWatch
from serve.observed_stages import ObservedStages
from serve.portrait_check import PortraitCheck
from serve.portraits import NOBODY, Portraits, of_consent
from serve.render_stream import RenderStream
from serve.signing import Signer

_log = logging.getLogger(__name__)


class Models(Protocol):
    """The bundles that are served."""

    def listed(self) -> list[ModelFacts]:
        """What can be asked for now; the first is taken where nothing is asked for. Empty while none is ready."""
        ...

    def lease(self, name: str | None = None) -> AbstractAsyncContextManager[Stages]:
        """The stages of a bundle, kept alive until the context ends, whatever is switched meanwhile.

        Raises NotFound for an unknown name, Unavailable while there is none.
        """
        ...


class OneModel:
    """`Models` over one set of stages, such as `LocalStages`."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages

    def listed(self) -> list[ModelFacts]:
        """The one there is."""
        return [self._stages.facts]

    @asynccontextmanager
    async def lease(self, name: str | None = None) -> AsyncIterator[Stages]:
        """See `Models.lease`."""
        if name not in (None, self._stages.facts.name):
            raise NotFound(f"no model {name!r} is served", fix=nearest(str(name), [self._stages.facts.name]))
        yield self._stages


@dataclass(frozen=True)
class RenderRequest:
    """One render. Files are local and belong to the caller, who may delete them once `open` has returned."""

    tenant: str
    portrait: Path | str
    """A picture, or the digest of a registered portrait (64 hex digits)."""
    audio: Path
    controls: RenderControls = field(default_factory=RenderControls)
    model: str | None = None
    """Name of the bundle; None takes the default."""
    most: int | None = None
    """Renders that the tenant may have under way."""
    portrait_name: str = "the portrait"
    audio_name: str = "the audio"
    """What messages call them."""
    permission: Permission = field(default_factory=Permission)


class RenderService:
    """Opens renders; lives in one event loop.

    Args:
        signer: signs finished files.
        metrics: counts.
        intake: opens pictures and recordings; closed with the service.
        s3: how to reach the root, where it is a bucket.
    """

    def __init__(
        self,
        config: ServeConfig,
        models: Models,
        *,
        signer: Signer,
        metrics: GatewayMetrics | None = None,
        intake: Intake | None = None,
        s3: S3Config | None = None,
    ) -> None:
        limits = config.gateway.limits
        self.models, self.limits = models, limits
        self.metrics = metrics or GatewayMetrics()
        self.admission = Admission(limits.streams)
        self.identities = IdentityStore(config.root, config.identity_days, s3)
        self.files = FinishedFiles(config.root, config.file_days, signer, s3)
        self.intake = intake or Intake()
        oversight = open_storage(config.oversight or config.root, s3)
        self.audit = AuditLog(oversight, f"gateway@{socket.gethostname()}")
        self._portraits = Portraits(
            self.identities,
            self.intake,
            PortraitCheck(oversight, config.consent_hook),
            self.audit,
            self.metrics,
        )
        self.streams: dict[str, RenderStream] = {}
        """Renders under way, by id, until their file is stored."""

    async def open(self, request: RenderRequest, slot: Slot | None = None) -> RenderStream:
        """Check the inputs, and everything that can be refused; the returned stream has not computed anything yet.

        Args:
            slot: leave taken before; else one is taken here. It is given back when the stream ends, or on an error.

        Raises Busy without a slot, Forbidden for a portrait that may not be animated, BadInput, NotFound (model,
        identity), Conflict, Unavailable.
        """
        async with AsyncExitStack() as held:
            held.enter_context(slot or self.admission.take(request.tenant, request.most))
            self.limits.check(request.controls)
            stages = await held.enter_async_context(self.models.lease(request.model))
            observed = ObservedStages(stages, self.metrics)
            audio_task = asyncio.create_task(
                self.intake.audio(request.audio, self.limits.audio_s, request.audio_name)
            )
            try:
                found = await self._portraits.find(
                    request.tenant,
                    request.portrait,
                    request.controls,
                    stages.facts.size,
                    request.portrait_name,
                    request.permission,
                )
                audio = await audio_task
            finally:
                audio_task.cancel()
            controls = request.controls
            if audio.num_frames(controls.fps) == 0:
                raise BadInput(
                    f"{audio.name} is too short for one frame at {controls.fps} fps", fix="give longer audio"
                )
            facts, identity = stages.facts, found.identity
            inputs = {
                "portrait": identity.digest,
                "audio": await asyncio.to_thread(sha256_of_file, request.audio),
            }
            tags = synthetic_tags(
                model=facts.name,
                model_sha256=facts.digest,
                inputs=inputs,
                controls=controls.model_dump(mode="json"),
                consent=request.permission.consent,
            )
            width, height = found.stored.opened(controls.size).size
            watch = self.metrics.render(observed.model)
            stream = RenderStream(
                id=secrets.token_hex(16),
                facts=facts,
                identity=identity,
                size=(width + width % 2, height + height % 2),
                note=found.note,
                audio=audio,
                fps=controls.fps,
                tags=tags,
                chunks=render(observed, FlowRequest(identity, audio, controls)),
                watch=watch,
                held=held.pop_all(),
                finish=self._finish,
            )
            self.streams[stream.id] = stream
            digests = {**inputs, "model": facts.digest}
            stream.on_end(lambda: self._ended(stream, watch, observed, request.permission, digests))
            return stream

    def _ended(
        self,
        stream: RenderStream,
        watch: RenderWatch,
        observed: ObservedStages,
        permission: Permission,
        digests: dict[str, str],
    ) -> None:
        self.streams.pop(stream.id, None)
        self.audit.note(
            stream.identity.tenant, "rendered", permission.who, stream.id, digests,
            f"{watch.outcome}{of_consent(permission)}",
        )  # fmt: skip
        _log.info(
            "render %s", watch.outcome,
            extra={
                "render": stream.id, "tenant": stream.identity.tenant, "model": observed.model,
                "frames": stream.frames, "fps": stream.fps, "seconds": round(watch.seconds, 3),
                "first_frame_s": watch.first_frame_s and round(watch.first_frame_s, 3),
                "busy_s": {stage: round(seconds, 3) for stage, seconds in observed.busy_s.items()},
            },
        )  # fmt: skip

    async def register(
        self,
        tenant: str,
        portrait: Path,
        controls: RenderControls,
        name: str = "the portrait",
        permission: Permission = NOBODY,
    ) -> tuple[IdentityRef, str]:
        """Align a portrait (`controls.face`, `paste_back`) and keep it: its identity and a note for the user.

        Raises Forbidden for one that may not be animated, BadInput as `portrait.open_portrait`, NotFound or
        Unavailable for the model.
        """
        async with self.models.lease() as stages:
            size = stages.facts.size
        found = await self._portraits.find(tenant, portrait, controls, size, name, permission)
        return found.identity, found.note

    async def record(self) -> None:
        """What was noted for the audit log is in the store. Raises Unavailable, and keeps what is not."""
        await asyncio.to_thread(self.audit.flush)

    async def sweep(self) -> None:
        """Removes what was kept long enough."""
        gone = await asyncio.to_thread(self.identities.sweep), await asyncio.to_thread(self.files.sweep)
        _log.info("swept", extra={"identities": gone[0], "files": gone[1]})

    async def close(self) -> None:
        """Stops renders that are under way; files of those that have ended are still stored."""
        for stream in list(self.streams.values()):
            await stream.close()
            await stream.stored()
        self.intake.close()
        with suppress(IfmdmError):  # nothing is left to try again
            await self.record()

    async def _finish(self, stream: RenderStream, gops: GopSpool) -> None:
        try:
            await asyncio.to_thread(
                self.files.publish,
                stream.identity.tenant,
                stream.id,
                iter(gops),
                stream.audio,
                stream.fps,
                stream.tags,
            )
        except Exception:
            _log.exception("the file of a finished render was not stored", extra={"render": stream.id})
            raise
        finally:
            gops.close()
