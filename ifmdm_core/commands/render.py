"""Rendering to a file in this process: what `ifmdm render`, `demo` and `bench` share."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from ifmdm_core.commands.progress import frame_progress
from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput

ModelOption = Annotated[str, typer.Option("--model", metavar="demo|DIR", help="bundle: 'demo' or a folder")]
DeviceOption = Annotated[
    str | None, typer.Option("--device", metavar="cpu|cuda[:N]", help="default: the GPU if there is one")
]
PrecisionOption = Annotated[
    str,
    typer.Option("--precision", metavar="auto|fp32|bf16", help="of the networks; auto picks the fast one"),
]


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
