"""The whole: a photo and speech become a talking video (paper 3.2), streamed, in bounded memory.

    head = TalkingHead.load("demo")
    head.render("photo.jpg", "speech.wav", RenderControls(seed=3)).save("out.mp4")

Its stages can be called alone: `open_portrait`, `identity`, `speech`, `motion`, `frames`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ifmdm_core.autoencoder import Autoencoder, Identity
from ifmdm_core.bundle import Bundle, load_bundle
from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput
from ifmdm_core.frame_decoder import FrameDecoder, default_dtype
from ifmdm_core.media.audio import Audio, read_audio
from ifmdm_core.motion import MotionGenerator, MotionSampler
from ifmdm_core.motion.chunks import rechunk
from ifmdm_core.motion.diffusion import scheduler_for
from ifmdm_core.motion.mouth import closed_mouth
from ifmdm_core.motion.resample import resample_motion
from ifmdm_core.portrait import Photo, Portrait, open_portrait
from ifmdm_core.provenance import sha256_of, synthetic_tags
from ifmdm_core.speech import SpeechEncoder
from ifmdm_core.speech_source import MODEL_FPS, SpeechSource
from ifmdm_core.video import Frames, Progress, Stopwatch, Video

LARGE_FRAME = 4_000_000
"""Bytes of an output frame from which frames are finished one by one."""


class TalkingHead:
    """Autoencoder, motion generator and speech encoder of one bundle, ready on one device."""

    def __init__(
        self,
        autoencoder: Autoencoder,
        motion: MotionGenerator,
        speech_encoder: SpeechEncoder,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        chunk: int | None = None,
        compile: bool = False,
        mouth_limit: float | None = None,
        speaking_lips: float = 0.0,
        name: str = "unnamed",
        digest: str = "",
    ) -> None:
        """Takes networks in float32; see `load` for the arguments."""
        self.decoder = FrameDecoder(autoencoder, device, dtype, chunk, compile)
        self.mouth_limit, self.name, self.digest = mouth_limit, name, digest
        # It takes hints as they are: `identity` has closed them.
        self.motion_sampler = MotionSampler(motion.to(self.device), speaking_lips)
        self.speech_encoder = speech_encoder
        scheduler_for("dpm++", 2, motion.config)  # diffusers' import is slow; pay for it while loading

    @classmethod
    def load(
        cls,
        ref: str | Path = "demo",
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        compile: bool = False,
    ) -> TalkingHead:
        """Loads a bundle.

        Args:
            ref: "demo" or a bundle folder.
            device: default: a GPU if there is one.
            dtype: of the picture networks; None is bfloat16 where the device is faster in it, else float32.
            compile: use torch.compile for the generator; pays off on long audio.

        Raises NotFound, BadInput, Conflict, Unsupported as `bundle.load_bundle`; BadInput for a missing device.
        """
        bundle: Bundle = load_bundle(ref)
        device = _device(device)
        record = bundle.record
        return cls(
            bundle.autoencoder(),
            bundle.motion(),
            bundle.speech_encoder(device),
            device=device,
            dtype=dtype or default_dtype(device),
            compile=compile,
            mouth_limit=record.mouth_limit,
            speaking_lips=record.speaking_lips,
            name=record.name,
            digest=bundle.digest,
        )

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.decoder.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the picture networks."""
        return self.decoder.dtype

    @property
    def autoencoder(self) -> Autoencoder:
        """Stage 1."""
        return self.decoder.autoencoder

    @property
    def size(self) -> int:
        """Side of the model's frames in pixels."""
        return self.decoder.size

    @property
    def chunk(self) -> int:
        """Frames of one decoder call."""
        return self.decoder.chunk

    # Stages

    def open_portrait(self, photo: Photo, controls: RenderControls | None = None) -> Portrait:
        """A picture with its face found and cropped; see `portrait.open_portrait`."""
        return open_portrait(photo, controls or RenderControls(), self.size)

    @torch.inference_mode()
    def identity(self, portrait: Portrait) -> tuple[Identity, Tensor]:
        """Appearance of the portrait, and the hint [20] that motion starts from.

        The hint is the portrait's own m^i, except that an open mouth (beyond the bundle's limit) starts closed.
        """
        identity = self.decoder.identity(portrait.crop)
        return identity, closed_mouth(
            self.motion_sampler.generator, identity.motion[0].float(), self.mouth_limit
        )

    def speech(self, samples: NDArray[np.float32]) -> Callable[[int, int], Tensor]:
        """Speech features of 16 kHz audio [n] as a function (first frame, count) -> [count, S], made when asked for.

        Spans must be asked for in rising order, as the motion sampler does; older features are forgotten.
        """
        return SpeechSource(self.speech_encoder, samples)

    def motion(
        self,
        speech: Tensor | Callable[[int, int], Tensor],
        hint: Tensor,
        controls: RenderControls | None = None,
        num_frames: int | None = None,
    ) -> Iterator[Tensor]:
        """Motion vectors [n, 20] at 25 fps, window by window; see `MotionSampler.generate`."""
        return self.motion_sampler.generate(speech, hint, controls, num_frames)

    def frames(self, identity: Identity, motion: Tensor) -> Frames:
        """Frames uint8 [n, S, S, 3] for motion [n, 20]."""
        return self.decoder.frames(identity, motion)

    # The whole

    def render(
        self,
        photo: Photo,
        audio: str | os.PathLike[str] | bytes | Audio,
        controls: RenderControls | None = None,
        progress: Progress | None = None,
    ) -> Video:
        """A video of the portrait speaking; frames are made when it is saved or walked through.

        Args:
            photo: a file, its bytes, or RGB pixels uint8 [H, W, 3].
            audio: a file, its bytes, or what `media.audio.read_audio` gave.
            controls: see `RenderControls`.
            progress: called with (frames done, frames in all).

        Raises BadInput when photo or audio cannot be used. The video has floor(samples x fps / rate + 1/2) frames.
        """
        controls = controls or RenderControls()
        watch = Stopwatch()
        with watch("inputs"):
            sound = audio if isinstance(audio, Audio) else read_audio(audio)
            portrait = self.open_portrait(photo, controls)
        with watch("identity"):
            identity, hint = self.identity(portrait)
        total = sound.num_frames(controls.fps)
        if total == 0:
            raise BadInput(
                f"{sound.name} is too short for one frame at {controls.fps} fps", fix="give longer audio"
            )

        def chunks(watch: Stopwatch) -> Iterator[Frames]:
            return self._chunks(portrait, identity, hint, sound, controls, watch)

        return Video(
            num_frames=total,
            size=portrait.size,
            fps=controls.fps,
            audio=sound,
            make_chunks=chunks,
            watch=watch,
            note=portrait.note,
            tags=synthetic_tags(
                model=self.name,
                model_sha256=self.digest,
                inputs={"photo": sha256_of(np.ascontiguousarray(portrait.whole).data.cast("B"))},
                controls=controls.model_dump(mode="json"),
            ),
            progress=progress,
        )

    def stream(
        self,
        photo: Photo,
        audio: str | os.PathLike[str] | bytes | Audio,
        controls: RenderControls | None = None,
    ) -> Iterator[Frames]:
        """Chunks of frames uint8 [n, H, W, 3] as windows finish; the first after one window."""
        return self.render(photo, audio, controls).chunks()

    def _chunks(
        self,
        portrait: Portrait,
        identity: Identity,
        hint: Tensor,
        sound: Audio,
        controls: RenderControls,
        watch: Stopwatch,
    ) -> Iterator[Frames]:
        speech = self.speech(sound.samples)

        def timed_speech(first: int, count: int) -> Tensor:
            with watch("speech"):
                return speech(first, count)

        total = sound.num_frames(controls.fps)
        steps = max(1, sound.num_frames(MODEL_FPS))
        windows = self.motion(timed_speech, hint, controls, steps)
        motion = _timed(resample_motion(windows, total, controls.fps, MODEL_FPS), watch, "motion", "speech")
        for part in rechunk(motion, self.chunk):
            with watch("decode"):
                frames = self.frames(identity, part)
            large = portrait.size[0] * portrait.size[1] * 3 > LARGE_FRAME
            for piece in np.split(frames, len(frames)) if large else [frames]:
                with watch("finish"):
                    output = portrait.finish(piece)
                yield output


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise BadInput(f"no device {device!r}", fix="use cpu, cuda or cuda:N") from None
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise BadInput(
            f"no device {device!r} here", fix=f"there are {torch.cuda.device_count()} GPUs; use cpu"
        )
    return chosen


def _timed(items: Iterable[Tensor], watch: Stopwatch, stage: str, inner: str) -> Iterator[Tensor]:
    """Adds the time taken by each item to `stage`, less what `inner` took meanwhile."""
    iterator = iter(items)
    while True:
        before = watch.seconds.get(inner, 0.0)
        with watch(stage):
            item = next(iterator, None)
        watch.seconds[stage] -= watch.seconds.get(inner, 0.0) - before
        if item is None:
            return
        yield item
