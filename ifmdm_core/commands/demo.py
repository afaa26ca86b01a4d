"""`ifmdm demo render`: the bundled portrait speaks the bundled sentences; `demo train` rebuilds the bundled model."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from ifmdm_core.commands.render import DeviceOption, ModelOption, PrecisionOption, render_file, summary
from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import Forbidden
from ifmdm_core.samples import SAMPLES


def render(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="where the video goes")] = Path("out"),
    model: ModelOption = "demo",
    device: DeviceOption = None,
    precision: PrecisionOption = "auto",
) -> None:
    """Render the bundled samples in this process, without Ray or anything else, and print where the video is."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Forbidden(
            f"{out}: cannot be made ({error.strerror})", fix="choose another --out folder"
        ) from None
    portrait, speech, output = SAMPLES / "astronaut.jpg", SAMPLES / "speech.flac", out / "demo.mp4"
    report = render_file(
        portrait, speech, output, RenderControls(), model=model, device=device, precision=precision
    )
    print(summary(report))
    print(f"The video is at {output.resolve()}")


def train(context: typer.Context) -> None:
    """Rebuild the bundled model from raw clips; `ifmdm demo train --help` lists its options."""
    importlib.import_module("ifmdm_core.training.recipe").main(context.args)
