"""What crosses between the flow and the stages: plain records of numpy arrays and bytes, never frames.

Every call is unary and idempotent, and carries all it needs; every reply says what it cost, so that the caller can
account for it (metrics per stage, busy seconds per job and tenant) without a second channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.controls import RenderControls
from ifmdm_core.motion.config import MotionConfig
from ifmdm_core.speech_windows import SpeechWindows

Floats = NDArray[np.float32]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Reply(Generic[Value]):
    """A stage's answer and what it cost."""

    value: Value
    seconds: float
    """This call's share of its batch's working time."""
    waited: float
    """Seconds in the replica before its batch began."""
    batch: int
    """Calls in the batch."""
    replica: str
    """Which replica answered."""
    hit: bool | None = None
    """Whether the decoder had the identity at hand; None from other stages."""


@dataclass(frozen=True)
class IdentityRef:
    """An aligned portrait in the store. Knowing a digest is no right to it: the tenant comes from the token."""

    tenant: str
    digest: str
    """sha256 of what the decoder needs of the picture."""


@dataclass(frozen=True)
class WindowCall:
    """One window of motion."""

    speech: Floats
    """[c + n, S] features of the context frames and the new ones."""
    hint: Floats
    """[20] the portrait's own motion m^i, as `identify` gave it; the sampler closes an open mouth."""
    index: int
    """Number of the window in its video: with the seed it fixes the noise."""
    context: Floats | None
    """[c, 20] finished motion right before the new frames; None at the start."""
    controls: RenderControls


@dataclass(frozen=True)
class MotionWindow:
    """The sampler's answer."""

    motion: Floats
    """[n, 20] new frames at 25 fps, in (-1, 1)."""
    opening: Floats
    """[n] mouth opening in spreads of the training set, for people to look at."""


@dataclass(frozen=True)
class ChunkCall:
    """A run of frames to paint and encode."""

    identity: IdentityRef
    first_frame: int
    motion: Floats
    """[n, 20] at the output's frame rate."""
    fps: int
    size: int | None
    """Side of the square output in pixels, None for the model's; without effect where the identity is pasted back."""


@dataclass(frozen=True)
class ModelFacts:
    """What a flow must know of a bundle to drive its stages; no weights."""

    name: str
    digest: str
    """sha256 of bundle.json."""
    size: int
    """Side of the model's frames in pixels."""
    chunk: int
    """Frames of one decoder call."""
    motion: MotionConfig
    speech: SpeechWindows


class Stages(Protocol):
    """The three stages of one bundle, wherever they run. Lost calls were retried before an error leaves here.

    Raises IfmdmError only: Unavailable when a call was lost too often, what the stage raised otherwise.
    """

    facts: ModelFacts

    async def encode(self, samples: Floats) -> Reply[Floats]:
        """One window of 16 kHz audio float32 [n] -> tokens float32 [t, dim] (see `SpeechWindows`)."""
        ...

    async def sample(self, call: WindowCall) -> Reply[MotionWindow]:
        """The new frames of a window of motion."""
        ...

    async def identify(self, identity: IdentityRef) -> Reply[Floats]:
        """The hint float32 [20] of a stored portrait; its appearance features are at hand afterwards."""
        ...

    async def decode(self, call: ChunkCall) -> Reply[bytes]:
        """A closed group of pictures: H.264 in NUT, pts from 0 in frames, no B frames, same headers in every chunk."""
        ...
