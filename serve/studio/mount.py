"""Puts the Studio onto the gateway's application."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from serve.config import GatewayConfig
from serve.renders import RenderService

if TYPE_CHECKING:
    from fastapi import FastAPI

CSS = """
.gradio-container {max-width: 1200px !important; width: 100%; margin: 0 auto}
.gradio-container > main {width: 100%}
#ifmdm-player video, .ifmdm-empty {width: 100%; max-width: 512px; aspect-ratio: 1; background: #111;
  border-radius: 8px; display: block; margin: 0 auto}
.ifmdm-empty {display: flex; align-items: center; justify-content: center; color: #ccc}
.ifmdm-progress {display: flex; gap: .75em; align-items: center; flex-wrap: wrap}
.ifmdm-progress progress {flex: 1 1 8em; height: .8em; appearance: none; border: 0; border-radius: 4px;
  overflow: hidden; background: var(--border-color-primary)}
.ifmdm-progress progress::-webkit-progress-bar {background: var(--border-color-primary)}
.ifmdm-progress progress::-webkit-progress-value {background: #ea580c}
.ifmdm-progress progress::-moz-progress-bar {background: #ea580c}
.ifmdm-error, .ifmdm-said {padding: .6em .8em; border-radius: 8px; overflow-wrap: anywhere}
.ifmdm-error {border: 2px solid #c0392b}
.ifmdm-said {border: 1px solid var(--border-color-primary)}
.ifmdm-file {font-weight: 600; text-decoration: underline}
.ifmdm-curves {margin: 0}
.ifmdm-curves svg {width: 100%; height: 230px; display: block}
.ifmdm-curves polyline {fill: none; stroke-width: 1; vector-effect: non-scaling-stroke}
.ifmdm-curves .heard {fill: var(--body-text-color-subdued); opacity: .35}
.ifmdm-curves .opening {stroke: #d35400; stroke-width: 2}
.ifmdm-curves .ifmdm-playhead {stroke: var(--body-text-color); vector-effect: non-scaling-stroke}
.ifmdm-curves .axis {display: flex; justify-content: space-between; font-size: .8em}
.ifmdm-curves .key-opening {color: #d35400; font-weight: 600}
"""
HEAD = """
<link rel="icon" href="data:,">
<script>
// The line in the drawing follows the video.
function ifmdmFollow() {
  const video = document.getElementById("ifmdm-video"), svg = document.querySelector(".ifmdm-curves svg");
  if (video && svg) {
    const x = Math.min(1, video.currentTime / svg.dataset.seconds) * svg.viewBox.baseVal.width;
    const line = svg.querySelector(".ifmdm-playhead");
    line.setAttribute("x1", x); line.setAttribute("x2", x);
  }
  requestAnimationFrame(ifmdmFollow);
}
requestAnimationFrame(ifmdmFollow);
</script>
"""


def add_studio(app: FastAPI, service: RenderService, config: GatewayConfig) -> None:
    """Adds /studio to `app`. Its pages and their renders live in this process: one gateway replica, or sticky ones."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    uploads = tempfile.TemporaryDirectory(
        prefix="ifmdm-studio-"
    )  # of this process alone; Gradio's is everybody's
    os.environ["GRADIO_TEMP_DIR"] = uploads.name
    app.state.studio_uploads = uploads  # kept as long as the application
    import gradio as gr

    from serve.studio.guard import PREFIX, Needed
    from serve.studio.page import studio_page
    from serve.studio.play import play_router
    from serve.studio.playbacks import Playbacks

    playbacks = Playbacks()
    app.include_router(play_router(playbacks))
    limits = config.limits
    fonts = ["system-ui", "sans-serif"]  # the default theme's come from another server
    gr.mount_gradio_app(
        app,
        studio_page(service, playbacks, config),
        path=PREFIX,
        max_file_size=round(1e6 * max(limits.portrait_mb, limits.audio_mb)),
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        theme=gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"]),
        css=CSS,
        head=HEAD,
    )
    app.add_middleware(Needed, uploads=Path(uploads.name))
