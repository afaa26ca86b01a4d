"""`ifmdm evaluate BUNDLE CLIPS`: the measuring tables with their control rows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ifmdm_core.commands.render import DeviceOption, PrecisionOption, dtype_of

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def evaluate(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="'demo' or a folder", show_default=False)],
    clips: Annotated[
        Path,
        typer.Argument(metavar="CLIPS", help="folder of talking videos no training saw", show_default=False),
    ],
    landmarker: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="face_landmarker.task; default: $IFMDM_FACE_LANDMARKER"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="few clips and seeds, wide intervals")] = False,
    device: DeviceOption = None,
    precision: PrecisionOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print the tables as JSON")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="print them as Markdown")] = False,
) -> None:
    """Print the measuring tables of a bundle on held-out clips.

    Landmarks on renders come from a reference landmarker (mediapipe's face_landmarker.task, with the package
    mediapipe), never from the project's own; without it those figures read "not available".
    """
    from ifmdm_core.metrics.evaluate import evaluate as measure
    from ifmdm_core.talking_head import TalkingHead

    def notice(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    head = TalkingHead.load(bundle, device=device, dtype=dtype_of(precision))
    report = measure(head, clips, landmarker=landmarker, quick=quick, notice=notice)
    if as_json:
        print(report.model_dump_json())
    elif as_markdown:
        print(report.markdown())
    else:
        report.print()
