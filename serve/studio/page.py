"""The page: its inputs, its outputs and what the buttons do. Runs over any `RenderService`."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import IfmdmError
from ifmdm_core.samples import SAMPLES
from serve import logs
from serve.config import GatewayConfig
from serve.protection.asgi import caller_of
from serve.renders import RenderService
from serve.studio import session
from serve.studio.guard import StudioBlocks
from serve.studio.playbacks import Playback, Playbacks
from serve.studio.session import Form, View

UPLOADS_S = 3600
"""Seconds that uploaded files are kept."""
_DEFAULTS = RenderControls()

_log = logging.getLogger(__name__)


def studio_page(service: RenderService, playbacks: Playbacks, config: GatewayConfig) -> StudioBlocks:
    """The page, to be mounted; `playbacks` is what its video elements read from."""
    running: dict[str, Playback] = {}  # by the browser page's session

    with StudioBlocks(title="ifmdm studio", analytics_enabled=False, delete_cache=(600, UPLOADS_S)) as page:
        gr.HTML("<h1>ifmdm studio</h1><p>A portrait photo and speech become a talking video.</p>")
        with gr.Row():
            with gr.Column(min_width=300):
                portrait = gr.Image(
                    label="Portrait: one photo with a face",
                    sources=["upload", "clipboard"],
                    type="filepath",
                    image_mode=None,
                    height=280,
                    buttons=[],
                    elem_id="ifmdm-portrait",
                )
                audio = gr.Audio(
                    label="Speech: a recording, or your microphone",
                    sources=["upload", "microphone"],
                    type="filepath",
                    editable=False,
                    buttons=[],
                    elem_id="ifmdm-speech",
                )
                sample = gr.Button("Take the bundled sample", size="sm", elem_id="ifmdm-sample")
                with gr.Accordion("A registered portrait instead of a photo", open=False):
                    registered = gr.Textbox(
                        label="Its digest",
                        placeholder="64 hex digits",
                        max_lines=1,
                        elem_id="ifmdm-registered",
                    )
                consent = gr.Textbox(
                    label="Reference to the shown person's consent",
                    placeholder="where a token needs one",
                    max_lines=1,
                    elem_id="ifmdm-consent",
                )
                controls = _controls(config.limits.steps)
            with gr.Column(min_width=300):
                with gr.Row():
                    start = gr.Button("Render", variant="primary", elem_id="ifmdm-render")
                    stop = gr.Button("Stop", variant="stop", elem_id="ifmdm-stop")
                player = gr.HTML(
                    '<div class="ifmdm-empty">The video plays here as it is rendered.</div>',
                    elem_id="ifmdm-player",
                )
                message = gr.HTML(elem_id="ifmdm-message")
                file = gr.HTML(elem_id="ifmdm-file")
                drawing = gr.HTML(elem_id="ifmdm-drawing")

        async def on_render(request: gr.Request, *values: Any) -> AsyncIterator[dict[Any, str]]:
            async for view in _rendered(Form(*values), request):
                parts = (
                    (player, view.player),
                    (message, view.message),
                    (drawing, view.curves),
                    (file, view.file),
                )
                yield {part: text for part, text in parts if text is not None}

        async def _rendered(form: Form, request: gr.Request) -> AsyncIterator[View]:
            name, identifier = str(request.session_hash), logs.usable_request_id(None)
            try:
                # Not around the views: each may be asked for, and the last one closed, in another context.
                with logs.request(identifier):
                    caller = caller_of(request.request.scope)
                    most = None if caller.renders is None else math.ceil(caller.renders / config.replicas)
                    asked = session.request_of(
                        form, caller.tenant, most, caller.name, caller.consent == "required"
                    )
                    playback = playbacks.start(await service.open(asked), caller.tenant)
                running[name] = playback
                try:
                    async for view in session.shown(playback, identifier):
                        yield view
                finally:  # the page was left: nobody waits for the rest
                    running.pop(name, None)
                    await playback.stop()
            except Exception as error:
                if not isinstance(error, IfmdmError) or error.http_status == 500:
                    _log.error("a fault of ours", exc_info=error, extra={"request": identifier})
                yield session.failed(error, identifier)

        async def on_stop(request: gr.Request) -> None:
            playback = running.get(str(request.session_hash))
            if playback is not None:
                await playback.stop()

        # Gradio's own preprocessing would open the files in this process; RenderService does it in a limited child.
        start.click(
            on_render,
            [portrait, registered, audio, *controls, consent],
            [player, message, drawing, file],
            preprocess=False,
            show_progress="hidden",
            api_visibility="private",
        )
        stop.click(on_stop, api_visibility="private", show_progress="hidden")
        sample.click(
            lambda: (str(SAMPLES / "astronaut.jpg"), str(SAMPLES / "speech.flac")),
            None,
            [portrait, audio],
            api_visibility="private",
            show_progress="hidden",
        )
    # What limits renders is the service's admission; Gradio's default would run one at a time.
    page.queue(default_concurrency_limit=None, max_size=100)
    return page


def _controls(most_steps: int) -> list[Any]:
    """Pose, its number, intensity left open, its number, guidance, steps, seed."""
    number = _DEFAULTS.pose if isinstance(_DEFAULTS.pose, float) else 0.5
    with gr.Accordion("How it moves", open=True):
        pose = gr.Radio(
            [("a number", "number"), ("hold", "hold"), ("evolve", "evolve"), ("free", "free")],
            value="number" if isinstance(_DEFAULTS.pose, float) else _DEFAULTS.pose,
            label="Head pose: hold the portrait's, follow what was (evolve), between them by number, or free",
        )
        pose_number = gr.Slider(0, 1, number, step=0.05, label="Head pose as a number: 0 holds, 1 evolves")
        intensity_open = gr.Checkbox(_DEFAULTS.intensity is None, label="Leave the strength of motion open")
        intensity = gr.Slider(
            0, 1, _DEFAULTS.intensity, step=0.05, label="Strength of motion: 0.3 is a usual clip"
        )
        guidance = gr.Slider(0, 20, _DEFAULTS.guidance, step=0.25, label="Guidance on speech: 1 is none")
        steps = gr.Slider(1, most_steps, _DEFAULTS.steps, step=1, label="Denoising steps: more take longer")
        seed = gr.Number(
            _DEFAULTS.seed, precision=0, minimum=0, label="Seed: the same one gives the same motion"
        )
        pose.change(
            lambda kind: gr.update(interactive=kind == "number"), pose, pose_number, api_visibility="private",
            show_progress="hidden",
        )  # fmt: skip
        intensity_open.change(
            lambda left_open: gr.update(interactive=not left_open), intensity_open, intensity,
            api_visibility="private", show_progress="hidden",
        )  # fmt: skip
    return [pose, pose_number, intensity_open, intensity, guidance, steps, seed]
