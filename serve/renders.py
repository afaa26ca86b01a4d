"""Renders as the gateway's surfaces see them (HTTP and Studio): inputs in, a stream of MP4 and a signed file out.

`RenderService.open` checks and prepares everything that can be refused; the `RenderStream` it gives then only renders.
It works over any `Stages`: replicas on a cluster, or networks in this process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

from ifmdm_core.controls import RenderControls
from serve.admission import Admission, Slot
from serve.messages import Floats, IdentityRef, ModelFacts, Stages


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


class RenderStream:
    """A render under way; iterate it for the bytes of a fragmented MP4, then `file` is there.

    Nothing is computed that nobody reads: at most two chunks are ahead of the reader.
    """

    id: str
    """Of the render and of its finished file, 32 hex digits."""
    facts: ModelFacts
    identity: IdentityRef
    num_frames: int
    size: tuple[int, int]
    """(width, height) in pixels."""
    fps: int
    note: str
    """What the user should know, such as which of several faces was taken; empty when nothing."""
    file_url: str
    """Path of the finished, signed file: /v1/files/<id>."""
    samples: Floats
    """[n] the speech at 16 kHz, mono, in [-1, 1]; for people to look at."""
    motion: Floats
    """[n, 20] motion of the frames sent so far, at `fps`."""
    opening: Floats
    """[n] mouth opening of those frames, in spreads of the training set."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Pieces of the MP4, a fragment as soon as its chunk is painted. One reader."""
        raise NotImplementedError

    async def finished(self) -> str:
        """Reads what is left of the stream, waits until the signed file is stored, and gives its `file_url`."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop: no further stage call is made, the slot is free. After the end it does nothing."""
        raise NotImplementedError

    async def __aenter__(self) -> RenderStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class RenderService:
    """Opens renders."""

    admission: Admission
    models: Models

    async def open(self, request: RenderRequest, slot: Slot | None = None) -> RenderStream:
        """Check the inputs, and everything that can be refused; the returned stream has not computed anything yet.

        Args:
            slot: leave taken before; else one is taken here. It is given back when the stream ends, or on an error.

        Raises Busy without a slot, BadInput, NotFound (model, identity), Unavailable.
        """
        raise NotImplementedError

    async def register(
        self, tenant: str, portrait: Path, controls: RenderControls, name: str = "the portrait"
    ) -> tuple[IdentityRef, str]:
        """Align a portrait and keep it: its identity and a note for the user.

        Raises BadInput as `portrait.open_portrait`.
        """
        raise NotImplementedError
