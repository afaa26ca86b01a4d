"""One click of Render: the form's values become a request, and what happens becomes what the page shows."""

from __future__ import annotations

import html
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ifmdm_core.config import validate
from ifmdm_core.consent import Permission
from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput, Cancelled, IfmdmError
from serve.renders import RenderRequest
from serve.studio.curves import curves, envelope
from serve.studio.playbacks import Playback

LOOK_S = 1.0
"""Seconds between looks of the page while a render runs."""


@dataclass(frozen=True)
class Form:
    """What the page's inputs hold, as the browser sent it: nothing is believed yet."""

    portrait: Any
    """Gradio's record of the uploaded picture, or None."""
    registered: Any
    """Digest of a registered portrait."""
    audio: Any
    pose: Any
    """hold, evolve, free or number."""
    pose_number: Any
    intensity_open: Any
    intensity: Any
    guidance: Any
    steps: Any
    seed: Any
    consent: Any = None
    """Reference to the shown person's consent."""


@dataclass(frozen=True)
class View:
    """What changes on the page: HTML of its parts, None where nothing does."""

    player: str | None = None
    message: str | None = None
    curves: str | None = None
    file: str | None = None


def request_of(
    form: Form, tenant: str, most: int | None, who: str = "", consent_required: bool = False
) -> RenderRequest:
    """The render that the form asks for.

    Args:
        who: name of the caller's token.

    Raises BadInput for what is missing or out of range, in the words of the page.
    """
    registered = str(form.registered or "").strip().lower()
    if form.portrait and registered:
        raise BadInput("a picture and a registered portrait are both given", fix="clear one of them")
    if not form.portrait and not registered:
        raise BadInput("there is no portrait", fix="drop a photo with a face, or name a registered portrait")
    if not form.audio:
        raise BadInput("there is no speech", fix="drop a recording, or record one")
    values = {
        "pose": form.pose_number if form.pose == "number" else form.pose,
        "intensity": None if form.intensity_open else form.intensity,
        "guidance": form.guidance,
        "steps": form.steps,
        "seed": form.seed,
    }
    return RenderRequest(
        tenant=tenant,
        portrait=registered or Path(form.portrait["path"]),
        audio=Path(form.audio["path"]),
        controls=validate(RenderControls, values, where="controls"),
        most=most,
        portrait_name=_name(form.portrait, "the registered portrait"),
        audio_name=_name(form.audio, "the recording"),
        permission=Permission(who, str(form.consent or "").strip()[:500] or None, consent_required),
    )


async def shown(playback: Playback, request_id: str) -> AsyncIterator[View]:
    """Views of a render under way, about one a second; the last one says how it ended."""
    stream, began = playback.stream, time.monotonic()
    heard = envelope(stream.audio.samples)
    note = f" {html.escape(stream.note)}." if stream.note else ""
    drawn = -1
    yield View(player=_player(stream.id), message=_progress(0, stream.num_frames, stream.fps, 0.0), file="")
    while not playback.ended:
        await playback.changed(LOOK_S)
        done = stream.frames
        drawing = None
        if done != drawn:
            drawing = curves(heard, stream.motion, stream.opening, stream.num_frames, stream.fps)
            drawn = done
        seconds = time.monotonic() - began
        yield View(message=_progress(done, stream.num_frames, stream.fps, seconds), curves=drawing)
    if playback.error is not None:
        yield failed(playback.error, request_id)
        return
    seconds = time.monotonic() - began
    speed = stream.num_frames / stream.fps / seconds
    yield View(
        message=_said(
            f"Done: {stream.num_frames} frames in {seconds:.1f} s, {speed:.2f} times real time.{note} "
            f"This portrait is registered as <code>{html.escape(stream.identity.digest)}</code>."
        ),
        curves=curves(heard, stream.motion, stream.opening, stream.num_frames, stream.fps),
        file=_link(playback.file_url or stream.file_url),
    )


def failed(error: BaseException, request_id: str) -> View:
    """What the page says of an error; of one that is our fault only where to ask."""
    if isinstance(error, Cancelled):
        return View(message=_said("Stopped."), file="")
    if isinstance(error, IfmdmError) and error.http_status != 500:
        what, fix = error.what, error.fix
    else:
        what, fix = "internal error", f"tell the operator the request id {request_id}"
    text = f"<strong>{html.escape(what)}</strong>" + (f"<br>{html.escape(fix)}" if fix else "")
    return View(message=f'<div role="alert" class="ifmdm-error">{text}</div>', file="")


def _name(given: Any, otherwise: str) -> str:
    """What the user called the file."""
    name = given.get("orig_name") if isinstance(given, dict) else None
    return str(name)[:100] if name else otherwise


def _player(identifier: str) -> str:
    return (
        f'<video id="ifmdm-video" src="/studio/play/{identifier}" controls autoplay playsinline '
        'aria-label="The rendered video"></video>'
    )


def _progress(done: int, whole: int, fps: int, seconds: float) -> str:
    return (
        f'<div class="ifmdm-progress"><progress max="{whole}" value="{done}" aria-label="Rendered"></progress>'
        f"<span>{done / fps:.1f} of {whole / fps:.1f} s, {seconds:.0f} s spent</span></div>"
    )


def _said(text: str) -> str:
    return f'<div role="status" class="ifmdm-said">{text}</div>'


def _link(url: str) -> str:
    return (
        f'<a class="ifmdm-file" href="{html.escape(url)}" download>Download the signed file (MP4)</a> '
        "<small>AI-generated; it says so in its metadata and in a signed C2PA manifest.</small>"
    )
