"""What a worker asks of whatever renders: one task in, one local file out, steered by a callback.

Kernel only: the simulation of the protocol stands in for the real renderer without any media or networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ifmdm_core.controls import RenderControls
from ifmdm_core.storage import Storage
from ifmdm_core.uri import Uri

TICK_S = 1.0
"""About the longest time between two reports, also while nothing comes forth."""


class Halt(Exception):
    """Raised by `report` to stop the render it is called from; it comes out of `Renderer.render` as it is.

    No outcome of the render: whoever raises it knows why.
    """


@dataclass(frozen=True)
class Source:
    """One input, as it was pinned when the job was submitted."""

    uri: Uri
    """What messages call it."""
    etag: str
    """Of the bytes that were meant."""
    storage: Storage
    key: str
    """Where it is read from: already checked against what the tenant may read."""


@dataclass(frozen=True)
class Task:
    """What one attempt renders."""

    tenant: str
    id: str
    epoch: int
    portrait: Source
    audio: Source
    controls: RenderControls
    bundle_uri: str
    bundle_sha256: str
    """Digest of its bundle.json; stored motion and results belong to it."""
    consent: str | None
    """Reference to the consent of the person shown; goes into the file's tags."""
    storage: Storage
    """The job store."""
    folder: str
    """attempts/<tenant>/<id>/<epoch> in it, without a slash at the end: log, metrics, motion of this attempt."""
    earlier: tuple[str, ...] = ()
    """Folders of earlier attempts of this job, newest first; their motion may be taken over."""


@dataclass(frozen=True)
class Rendered:
    """A finished, signed file on this disk, there until the context of `Renderer.render` ends."""

    path: Path
    sha256: str
    size: int
    """bytes"""
    frames: int
    fps: int
    seconds: float
    """Wall time of the attempt, downloads and signing included."""
    busy_s: Mapping[str, float] = field(default_factory=dict)
    """Working seconds of each stage: speech, motion, decoder."""
    resumed_motion: bool = False
    """Whether the motion came from an earlier attempt."""
    frames_decoded: int = 0
    """Frames that this attempt had painted."""
    note: str = ""
    """What the user should know, such as which of several faces was taken; empty when nothing."""


def spent(error: BaseException) -> dict[str, float]:
    """Working seconds of each stage in an attempt that ended with this error (or Halt)."""
    return dict(getattr(error, "busy_s", {}))


Report = Callable[[int, int], None]
"""`report(frames_done, frames_total)`; may raise Halt (any exception stops the render and comes out of it).

Called in the thread that called `render`: before the inputs are read (0, 0), when their length is known (0, total),
after every chunk, and about every TICK_S while the render waits for something. So a call is a chance to stop, and
progress is only what changes the numbers. The render does not go on while `report` runs: it should be quick.
"""


class Renderer(Protocol):
    """Renders tasks; may be used from several threads at once."""

    def render(self, task: Task, report: Report) -> AbstractContextManager[Rendered]:
        """The video of a task, made when the context is entered, removed when it ends.

        A log of the attempt and its metrics are in `task.folder` afterwards, also when it failed.

        Raises the following; `spent` tells what each had cost by then.

            Halt: what `report` raised.
            NotFound, Conflict, BadInput: an input is absent, was changed since, or cannot be used; names the field.
            Unavailable: the model's stages or a store do not answer.
            IfmdmError: what else a stage raises.
        """
        ...
