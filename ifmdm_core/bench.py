"""How fast every stage and the whole run here, each figure with what it includes.

Cases are run in turns and the median of each is reported, so that a slow minute of the machine touches all alike.
"""

from __future__ import annotations

import copy
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ifmdm_core.controls import RenderControls

if TYPE_CHECKING:
    from ifmdm_core.autoencoder import Autoencoder, Identity
    from ifmdm_core.talking_head import TalkingHead

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    """One thing to time; `frames` is what one run yields, 0 where frames are not the measure."""

    stage: str
    setting: str
    includes: str
    frames: int
    run: Callable[[], object] = field(repr=False)


@dataclass(frozen=True)
class Figure:
    """One result. `low` and `high` are the slowest and fastest run in the same unit (equal for counts)."""

    stage: str
    setting: str
    value: float
    unit: str
    low: float
    high: float
    runs: int
    includes: str


def measure(cases: Sequence[Case], repeats: int, synchronise: Callable[[], None]) -> list[Figure]:
    """Warm every case once, then run all of them `repeats` times in turns."""
    for case in cases:
        case.run()
    taken: list[list[float]] = [[] for _ in cases]
    for _ in range(repeats):
        for case, seconds in zip(cases, taken, strict=True):
            synchronise()
            started = time.perf_counter()
            case.run()
            synchronise()
            seconds.append(time.perf_counter() - started)
    return [_figure(case, seconds) for case, seconds in zip(cases, taken, strict=True)]


def bench(
    head: TalkingHead,
    autoencoder: Autoencoder,
    photo: str | Path,
    audio: str | Path,
    *,
    repeats: int = 5,
    batches: Sequence[int] = (1, 5, 10, 25),
    steps: Sequence[int] = (4, 8, 16, 50),
    sizes: Sequence[int] = (256, 512),
    paper: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> list[Figure]:
    """All figures for a loaded model on its device.

    Args:
        autoencoder: the bundle's, in float32; the decoder rows make their copies in each precision from it.
        batches: frames decoded in one call.
        steps: denoising steps per window (sampler dpm++, default guidance).
        sizes: sides of the output in the end-to-end rows.
        paper: also time the `paper` preset's decoder at 512 pixels, with random weights.
        note: told what is being measured next.
    """
    device = head.device

    def synchronise() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    note("inputs, speech and motion")
    figures = measure(
        [*_input_cases(head, photo, audio), *_motion_cases(head, audio, steps)], repeats, synchronise
    )
    note("decoder")
    face = head.open_portrait(photo).crop
    figures += decoder_figures(autoencoder.to(device), "bundle", face, batches, repeats, synchronise)
    if paper:
        note("paper decoder")
        name = "paper preset, random weights"
        figures += decoder_figures(paper_decoder(device), name, face, batches[:2], repeats, synchronise)
    note("colour, encoding")
    figures += measure(list(_output_cases(head, photo, audio)), repeats, synchronise)
    note("end to end")
    with tempfile.TemporaryDirectory(prefix="ifmdm-bench-") as folder:
        cases = _end_to_end_cases(head, photo, audio, Path(folder), sizes, steps)
        figures += measure(list(cases), max(1, min(repeats, 3)), synchronise)
    return figures


def decode_gflop(autoencoder: Autoencoder, identity: Identity) -> float:
    """10^9 multiplications and additions to decode one frame, by torch's counter (grid sampling is free)."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        autoencoder.decode(identity, identity.motion)
    return counter.get_total_flops() / 1e9


def precision_difference(autoencoder: Autoencoder, image: Tensor, motion: Tensor) -> float:
    """Mean absolute difference of decoded frames, bf16 against fp32, in steps of 1/255."""
    frames = []
    for dtype in PRECISIONS.values():
        model = copy.deepcopy(autoencoder).set_precision(dtype)
        with torch.inference_mode():
            frames.append(model.decode(model.encode_identity(image), motion).float())
    return float((frames[0] - frames[1]).abs().mean() * 255)


def decoder_figures(
    autoencoder: Autoencoder,
    name: str,
    picture: NDArray[np.uint8],
    batches: Sequence[int],
    repeats: int,
    synchronise: Callable[[], None],
) -> list[Figure]:
    """Identity encoding and frame decoding of a face [H, W, 3] by batch and precision, GFLOP a frame, bf16 - fp32."""
    import cv2

    size = autoencoder.config.size
    device = next(autoencoder.parameters()).device
    face = torch.from_numpy(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA))
    image = face.permute(2, 0, 1)[None].to(device).float() / 255  # [1, 3, S, S]
    count = max(batches)
    with torch.inference_mode():
        plain = copy.deepcopy(autoencoder).set_precision(torch.float32)
        motion = _wander(plain.encode_motion(image), count)  # [count, 20]
    cases = []
    for precision, dtype in PRECISIONS.items():
        model = copy.deepcopy(autoencoder).set_precision(dtype)
        with torch.inference_mode():
            identity = model.encode_identity(image)
        setting = f"{name}, {size}x{size}, {precision}"
        cases.append(
            Case(
                "identity", setting, "model only, once per portrait", 0, _quiet(model.encode_identity, image)
            )
        )
        for batch in batches:
            parts = motion.split(batch)
            run = _quiet(lambda m=model, i=identity, p=parts: [m.decode(i, part) for part in p])
            cases.append(Case("decode frames", f"{setting}, batch {batch}", "model only", count, run))
    figures = measure(cases, repeats, synchronise)
    flops = decode_gflop(plain, plain.encode_identity(image))
    where = f"{name}, {size}x{size}"
    figures.append(
        _count("decode frames", where, flops, "GFLOP/frame", "multiplications + additions, torch's counter")
    )
    difference = precision_difference(autoencoder, image, motion)
    figures.append(
        _count(
            "decode frames",
            where,
            difference,
            "/255",
            "mean absolute difference of frames, bf16 against fp32",
        )
    )
    return figures


def paper_decoder(device: torch.device) -> Autoencoder:
    """The `paper` preset with random weights, for timing only."""
    from ifmdm_core.autoencoder import Autoencoder, AutoencoderConfig

    return Autoencoder(AutoencoderConfig.preset("paper")).eval().to(device)


def machine(device: torch.device) -> str:
    """One line about where the figures come from."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    return f"{name}, {torch.get_num_threads()} threads{gpu}; {versions}"


def as_records(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """For JSON."""
    return [asdict(figure) for figure in figures]


def _figure(case: Case, seconds: list[float]) -> Figure:
    if case.frames:
        values, unit = [case.frames / s for s in seconds], "frames/s"
    else:
        values, unit = [1000 * s for s in seconds], "ms"
    low, high = (min(values), max(values)) if case.frames else (max(values), min(values))
    return Figure(
        case.stage, case.setting, statistics.median(values), unit, low, high, len(values), case.includes
    )


def _count(stage: str, setting: str, value: float, unit: str, includes: str) -> Figure:
    return Figure(stage, setting, value, unit, value, value, 1, includes)


def _quiet(function: Callable[..., object], *arguments: object) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode():
            return function(*arguments)

    return run


def _wander(rest: Tensor, count: int) -> Tensor:
    """Smooth motion [count, 20] around rest [1, 20]."""
    phase = torch.linspace(0, 6.28, count, device=rest.device)[:, None] + torch.arange(20, device=rest.device)
    return (rest + 0.2 * phase.sin()).clamp(-0.99, 0.99)


def _input_cases(head: TalkingHead, photo: str | Path, audio: str | Path) -> Iterator[Case]:
    from ifmdm_core.media.audio import read_audio
    from ifmdm_core.media.face import find_faces
    from ifmdm_core.media.image import read_image

    picture, sound = read_image(photo), read_audio(audio)
    shape = f"{picture.shape[1]}x{picture.shape[0]}"
    frames = sound.num_frames(25)
    yield Case("read photo", shape, "file to RGB", 0, lambda: read_image(photo))
    yield Case(
        "read audio",
        f"{sound.duration:.1f} s",
        "file to 16 kHz and to native PCM",
        frames,
        lambda: read_audio(audio),
    )
    yield Case("find faces", shape, "detector and landmarks", 0, lambda: find_faces(picture))
    yield Case(
        "speech features", f"{sound.duration:.1f} s, windows of 10 s", "model and resampling to frames", frames,
        _quiet(lambda: head.speech_encoder.encode(sound.samples, fps=25, num_frames=frames)),
    )  # fmt: skip


def _motion_cases(head: TalkingHead, audio: str | Path, steps: Sequence[int]) -> Iterator[Case]:
    from ifmdm_core.media.audio import read_audio

    sound = read_audio(audio)
    frames = sound.num_frames(25)
    with torch.inference_mode():
        features = head.speech_encoder.encode(sound.samples, fps=25, num_frames=frames)
    hint = torch.zeros(20, device=head.device)
    for number in steps:
        controls = RenderControls(steps=number)
        yield Case(
            "motion", f"{number} steps, dpm++, guidance 2", "model and sampler, batch 1", frames,
            _quiet(lambda c=controls: list(head.motion_sampler.generate(features, hint, c))),
        )  # fmt: skip


def _output_cases(head: TalkingHead, photo: str | Path, audio: str | Path) -> Iterator[Case]:
    from ifmdm_core.media.audio import read_audio
    from ifmdm_core.media.video import VideoWriter

    portrait = head.open_portrait(photo)
    identity, hint = head.identity(portrait)
    motion = _wander(hint[None], head.chunk)
    pictures = head.frames(identity, motion)  # uint8 [chunk, S, S, 3]
    size, count = head.size, len(pictures)
    dtype = str(head.dtype).removeprefix("torch.")
    yield Case(
        "8-bit frames", f"{size}x{size}, {dtype}, batch {count}", "decoder, rounding to RGB, copy to memory", count,
        lambda: head.frames(identity, motion),
    )  # fmt: skip
    for text, controls in (
        (f"resize to {2 * size}x{2 * size}", RenderControls(size=2 * size)),
        ("paste back into the photo", RenderControls(paste_back=True)),
    ):
        finish = head.open_portrait(photo, controls).finish
        yield Case("finish", text, "8-bit frames to output frames", count, partial(finish, pictures))
    sound = read_audio(audio)
    frames = sound.num_frames(25)
    folder = tempfile.TemporaryDirectory(prefix="ifmdm-bench-")

    def encode() -> None:
        with VideoWriter(Path(folder.name) / "out.mp4", (size, size), 25, sound) as writer:
            for first in range(0, frames, count):
                writer.write(pictures[: min(count, frames - first)])

    yield Case("encode and mux", f"{size}x{size}, x264 crf 18", "RGB to YUV, H.264, AAC, mux", frames, encode)


def _end_to_end_cases(
    head: TalkingHead,
    photo: str | Path,
    audio: str | Path,
    folder: Path,
    sizes: Sequence[int],
    steps: Sequence[int],
) -> Iterator[Case]:
    from ifmdm_core.media.audio import read_audio

    frames = read_audio(audio).num_frames(25)
    yield Case(
        "first chunk", "default controls", "decode inputs, faces, first speech and motion window, decode", 0,
        lambda: next(iter(head.stream(photo, audio))),
    )  # fmt: skip
    default = RenderControls().steps
    settings = [(size, default, False) for size in sizes] + [
        (sizes[0], n, False) for n in steps if n != default
    ]
    settings.append((sizes[0], default, True))
    dtype = str(head.dtype).removeprefix("torch.")
    for size, number, paste in settings:
        controls = RenderControls(size=size, steps=number, paste_back=paste)
        where = "paste-back" if paste else f"{size}x{size}"
        text = f"{where}, {number} steps, {dtype}"

        def run(controls: RenderControls = controls) -> None:
            head.render(photo, audio, controls).save(folder / "out.mp4")

        yield Case(
            "end to end",
            text,
            "decode inputs, faces, model, colour, encode, mux; not loading the model",
            frames,
            run,
        )
