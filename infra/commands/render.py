"""`ifmdm render PHOTO AUDIO -o OUT.mp4`: in this process, or by a service with `--server`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ifmdm_core.commands.progress import frame_progress
from ifmdm_core.commands.render import DeviceOption, PrecisionOption, check_output, render_file, summary
from ifmdm_core.config import validate
from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

TOKEN = "IFMDM_TOKEN"
"""Environment variable with the token for a service; never an option, which others of this machine could read."""


@app.command()
def render(
    photo: Annotated[str, typer.Argument(metavar="PHOTO", help="a picture with a face", show_default=False)],
    audio: Annotated[
        str, typer.Argument(metavar="AUDIO", help="speech, any common format", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT.mp4", help="the video to write", show_default=False)
    ],
    server: Annotated[
        str | None,
        typer.Option("--server", metavar="URL", help="a service that renders; its token is in $IFMDM_TOKEN"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="demo|DIR",
            help="bundle: 'demo' or a folder; with --server a served one's name",
        ),
    ] = None,
    pose: Annotated[str, typer.Option(metavar="hold|evolve|free|0..1", help="mean head pose")] = "0.5",
    intensity: Annotated[str, typer.Option(metavar="0..1|none", help="strength of motion")] = "0.3",
    steps: Annotated[int, typer.Option(help="denoising steps per window")] = 8,
    sampler: Annotated[str, typer.Option(metavar="ddim|dpm++|ddpm", help="diffusion sampler")] = "dpm++",
    guidance: Annotated[float, typer.Option(help="guidance on speech; 1 is none")] = 2.0,
    statistics_guidance: Annotated[
        float, typer.Option(help="guidance on pose and intensity; 1 is none")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="same inputs and seed, same motion")] = 0,
    size: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="side of the output; default: the model's")
    ] = None,
    fps: Annotated[int, typer.Option(help="frames per second")] = 25,
    face: Annotated[
        str,
        typer.Option(
            metavar="auto|N|none|x,y,w,h", help="which face: largest, N-th from 0, whole photo, a box"
        ),
    ] = "auto",
    paste_back: Annotated[bool, typer.Option("--paste-back", help="into the whole photo again")] = False,
    device: DeviceOption = None,
    precision: PrecisionOption = "auto",
    compile_: Annotated[
        bool, typer.Option("--compile", help="torch.compile; pays off on long audio")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print what was done, as JSON")] = False,
) -> None:
    """Make a portrait photo speak.

    The video lasts as long as the audio: floor(samples x fps / rate + 1/2) frames, H.264 + AAC in an MP4, marked as
    AI-generated in its metadata. Nothing is left behind when it fails.
    """
    values = {
        "pose": pose,
        "intensity": intensity,
        "steps": steps,
        "sampler": sampler,
        "guidance": guidance,
        "statistics_guidance": statistics_guidance,
        "seed": seed,
        "size": size,
        "fps": fps,
        "face": face,
        "paste_back": paste_back,
    }
    controls = validate(RenderControls, values, where="options")
    check_output(output, photo, audio)
    if server is not None:
        _refuse_local(device, precision, compile_)
        report = render_there(server, photo, audio, output, controls, model=model, quiet=as_json)
        print(json.dumps(report) if as_json else summary(report))
        return
    report = render_file(
        photo,
        audio,
        output,
        controls,
        model=model or "demo",
        device=device,
        precision=precision,
        compiled=compile_,
        quiet=as_json,
    )
    print(json.dumps(report) if as_json else summary(report))


def render_there(
    server: str,
    photo: str,
    audio: str,
    output: Path,
    controls: RenderControls,
    *,
    model: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Let the service at `server` render, and fetch the signed file; the report's keys are those of `--json`."""
    from ifmdm_core.media.video import probe_video
    from serve.client import Client

    with (
        Client(server, os.environ.get(TOKEN)) as client,
        frame_progress(f"rendering at {server}", quiet) as progress,
    ):
        done = client.render(photo, audio, output, controls, model=model, progress=progress)
    if done.note:
        print(f"ifmdm: {photo}: {done.note}", file=sys.stderr)
    info = probe_video(output)
    return {
        "output": str(output),
        "frames": done.frames,
        "fps": controls.fps,
        "width": info.width,
        "height": info.height,
        "duration_s": round(done.frames / controls.fps, 3),
        "server": server,
        "id": done.id,
        "seconds": {"first_byte": round(done.first_byte_s, 4), "total": round(done.seconds, 4)},
        "rendered_fps": round(done.frames / done.seconds, 2),
        "note": done.note,
    }


def _refuse_local(device: str | None, precision: str, compiled: bool) -> None:
    """With --server these would be silently without effect."""
    given = {"--device": device is not None, "--precision": precision != "auto", "--compile": compiled}
    for name, used in given.items():
        if used:
            raise BadInput(f"{name} is for renders in this process", fix=f"leave {name} or --server out")
