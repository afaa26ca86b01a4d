"""Does a bundle render? The bundled sample goes through its stages before anybody else's portrait does."""

from __future__ import annotations

import asyncio
import io
import wave

import av
import numpy as np

from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput
from ifmdm_core.media.audio import Audio, read_audio
from ifmdm_core.portrait import open_portrait
from ifmdm_core.samples import SAMPLES
from ifmdm_core.speech_windows import SAMPLE_RATE
from serve.flow import Chunk, FlowRequest, render
from serve.identities import IdentityStore
from serve.messages import IdentityRef, Stages

TENANT = "probe"
SECONDS = 1.0
CONTROLS = RenderControls(steps=2)


async def probe(stages: Stages, root: str) -> None:
    """Renders a second of speech.

    Args:
        root: where the stages fetch portraits.

    Raises:
        BadInput: what comes out is no video: motion that is not finite, missing frames, pictures of another size.
        What the stages raise.
    """
    name, size = stages.facts.name, stages.facts.size
    identity, audio = await asyncio.to_thread(_inputs, root, size)
    chunks = [chunk async for chunk in render(stages, FlowRequest(identity, audio, CONTROLS))]
    fix = "what was served goes on; look at the bundle with ifmdm render --model"
    motion = np.concatenate([chunk.motion for chunk in chunks])
    if not np.isfinite(motion).all():
        raise BadInput(f"the bundle {name!r} is refused: its motion is not finite", fix=fix)
    wanted = audio.num_frames(CONTROLS.fps)
    pictures = await asyncio.to_thread(_pictures, chunks)
    if pictures != [(size, size)] * wanted:
        raise BadInput(
            f"the bundle {name!r} is refused: {wanted} pictures of {size} pixels were asked for, "
            f"{len(pictures)} of {sorted(set(pictures))} came",
            fix=fix,
        )


def _inputs(root: str, size: int) -> tuple[IdentityRef, Audio]:
    portrait = open_portrait(SAMPLES / "astronaut.jpg", CONTROLS, size)
    speech = read_audio(SAMPLES / "speech.flac").samples[: int(SECONDS * SAMPLE_RATE)]
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(SAMPLE_RATE)
        sound.writeframes((speech * 32767).astype("<i2").tobytes())
    return IdentityStore(root).put(TENANT, portrait), read_audio(file.getvalue())


def _pictures(chunks: list[Chunk]) -> list[tuple[int, int]]:
    """Width and height of every picture."""
    found = []
    for chunk in chunks:
        with av.open(io.BytesIO(chunk.gop)) as container:
            found += [(frame.width, frame.height) for frame in container.decode(video=0)]
    return found
