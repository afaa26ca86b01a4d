"""`ifmdm render PHOTO AUDIO -o OUT.mp4`."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from ifmdm_core.commands.progress import frame_progress
from ifmdm_core.config import validate
from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

ModelOption = Annotated[str, typer.Option("--model", metavar="demo|DIR", help="bundle: 'demo' or a folder")]
DeviceOption = Annotated[
    str | None, typer.Option("--device", metavar="cpu|cuda[:N]", help="default: the GPU if there is one")
]
PrecisionOption = Annotated[
    str,
    typer.Option("--precision", metavar="auto|fp32|bf16", help="of the networks; auto picks the fast one"),
]


@app.command()
def render(
    photo: Annotated[str, typer.Argument(metavar="PHOTO", help="a picture with a face", show_default=False)],
    audio: Annotated[
        str, typer.Argument(metavar="AUDIO", help="speech, any common format", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT.mp4", help="the video to write", show_default=False)
    ],
    model: ModelOption = "demo",
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
    report = render_file(
        photo,
        audio,
        output,
        controls,
        model=model,
        device=device,
        precision=precision,
        compiled=compile_,
        quiet=as_json,
    )
    print(json.dumps(report) if as_json else summary(report))


def check_output(output: Path, *inputs: str) -> None:
    """Fail before any work where the output cannot be written.

    Raises:
        BadInput: not an .mp4, the same file as an input, a missing folder.
        Forbidden, Unavailable: no permission, no space.
    """
    from ifmdm_core.media.files import published

    if output.suffix.lower() != ".mp4":
        raise BadInput(f"{output}: cannot write this kind of video", fix="name it .mp4")
    for given in inputs:
        with suppress(OSError):
            if output.exists() and output.samefile(given):
                raise BadInput(f"{output}: the output is also an input", fix="choose another -o name")
    with suppress(_Probed), published(output):
        raise _Probed


class _Probed(Exception):
    """Leaves `published` without publishing."""


def render_file(
    photo: str | Path,
    audio: str | Path,
    output: Path,
    controls: RenderControls,
    *,
    model: str = "demo",
    device: str | None = None,
    precision: str = "auto",
    compiled: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Render to a file with a progress bar, and report what it took (the keys are those of `--json`)."""
    from ifmdm_core.media.audio import read_audio
    from ifmdm_core.media.image import read_image

    read_image(photo)  # faults of the inputs show before a model is loaded
    started = time.perf_counter()
    sound = read_audio(audio)
    listened = time.perf_counter() - started
    from ifmdm_core.talking_head import TalkingHead

    head = TalkingHead.load(model, device=device, dtype=dtype_of(precision), compile=compiled)
    with frame_progress("rendering", quiet) as progress:
        video = head.render(photo, sound, controls, progress=progress)
        video.save(output)
    if video.note:
        print(f"ifmdm: {photo}: {video.note}", file=sys.stderr)
    spent = {**video.seconds, "inputs": video.seconds["inputs"] + listened}
    seconds = {name: round(value, 4) for name, value in spent.items()}
    total = sum(seconds.values())
    return {
        "output": str(output),
        "frames": video.num_frames,
        "fps": controls.fps,
        "width": video.size[0],
        "height": video.size[1],
        "duration_s": round(video.num_frames / controls.fps, 3),
        "model": model,
        "seconds": seconds,
        "rendered_fps": round(video.num_frames / total, 2) if total else None,
        "note": video.note,
    }


def dtype_of(precision: str) -> Any:
    """auto -> None, fp32 -> torch.float32, bf16 -> torch.bfloat16."""
    if precision == "auto":
        return None
    import torch

    names = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if precision not in names:
        raise BadInput(f"--precision is {precision!r}", fix="use auto, fp32 or bf16")
    return names[precision]


def summary(report: dict[str, Any]) -> str:
    """What a person reads after a render."""
    return (
        f"{report['output']}: {report['frames']} frames, {report['width']}x{report['height']}, "
        f"{report['duration_s']} s, rendered at {report['rendered_fps']} fps"
    )
