"""Clients of the service that behave as clients do: most read to the end, some hang up, send garbage or read slowly.

Every attempt ends in an `Attempt` with a verdict; `expected` says which verdicts are no fault of the service.
"""

from __future__ import annotations

import asyncio
import io
import random
import socket
import time
import wave
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np

from ifmdm_core.media.audio import read_audio

SAMPLES = Path(__file__).parents[2] / "ifmdm_core" / "assets" / "samples"
RATE, FPS = 16_000, 25
SHARES = {"hang_up": 0.10, "garbage": 0.10, "slow": 0.05}
"""Of the attempts; the others are `plain`."""

EXPECTED = {
    "plain": {"finished", "busy"},
    "slow": {"finished", "busy"},
    "hang_up": {"hung_up", "finished", "busy"},
    "garbage": {"refused", "busy"},
}
"""Verdicts that are no fault of the service."""


@dataclass
class Attempt:
    """One request and what became of it."""

    kind: str
    detail: str
    seconds_of_speech: float
    began: float
    """Seconds after the load began."""
    verdict: str = "lost"
    """finished, busy (429), refused (another 4xx), hung_up; broken: a stream that ended early or has other frames;
    accepted: garbage got 200; failed: 5xx; lost: no answer."""
    status: int = 0
    answer_s: float = 0.0
    """Seconds until the status line."""
    first_fragment_s: float | None = None
    """Seconds until the first fragment of the video was there."""
    seconds: float = 0.0
    frames: int = 0
    message: str = ""

    @property
    def expected(self) -> bool:
        """Whether the service did what it should."""
        return self.verdict in EXPECTED[self.kind]


class Inputs:
    """The bundled photo, and pieces of the bundled speech."""

    def __init__(self, lengths: Sequence[float]) -> None:
        """`lengths` in seconds."""
        self.portrait = (SAMPLES / "astronaut.jpg").read_bytes()
        speech = read_audio(SAMPLES / "speech.flac").samples  # [n] at 16 kHz
        self.speeches = {length: speech_wav(speech, length) for length in lengths}

    def form(self, length: float, **controls: Any) -> dict[str, Any]:
        """Keyword arguments of an httpx request for a render."""
        return {
            "files": {
                "portrait": ("portrait.jpg", self.portrait, "image/jpeg"),
                "audio": ("speech.wav", self.speeches[length], "audio/wav"),
            },
            "data": {name: str(value) for name, value in controls.items()},
        }

    def garbage(self, rng: random.Random, length: float) -> tuple[str, dict[str, Any]]:
        """A request that cannot succeed, and what is wrong with it."""
        form = self.form(length)
        files, name = form["files"], rng.choice(GARBAGE)
        noise = rng.randbytes(5_000)
        if name == "noise for a portrait":
            files["portrait"] = ("portrait.jpg", noise, "image/jpeg")
        elif name == "half a portrait":
            files["portrait"] = ("portrait.jpg", self.portrait[:2_000], "image/jpeg")
        elif name == "noise for audio":
            files["audio"] = ("speech.wav", noise, "audio/wav")
        elif name == "a portrait for audio":
            files["audio"] = ("speech.wav", self.portrait, "audio/wav")
        elif name == "no audio":
            del files["audio"]
        elif name == "unknown identity":
            del files["portrait"]
            form["data"] = {"identity": "0" * 64}
        elif name == "steps beyond limit":
            form["data"] = {"steps": "100000"}
        elif name == "unknown control":
            form["data"] = {"stepps": "4"}
        else:
            return name, {"content": noise, "headers": {"content-type": "multipart/form-data; boundary=x"}}
        return name, form


GARBAGE = (
    "noise for a portrait", "half a portrait", "noise for audio", "a portrait for audio", "no audio",
    "unknown identity", "steps beyond limit", "unknown control", "noise for a form",
)  # fmt: skip


async def drive(
    url: str,
    inputs: Inputs,
    *,
    clients: int,
    seconds: float,
    seed: int = 0,
    shares: dict[str, float] = SHARES,
    token: str | None = None,
    controls: dict[str, Any] | None = None,
    patience_s: float = 300,
) -> list[Attempt]:
    """`clients` at once, each one request after the other, new ones for `seconds`; all attempts, ended.

    Args:
        shares: of kinds other than plain.
        controls: of every render, such as {"steps": 4}.
        patience_s: seconds a client waits for the next byte.
    """
    headers = {"authorization": f"Bearer {token}"} if token else {}
    began = time.monotonic()

    async def client(number: int) -> list[Attempt]:
        rng = random.Random(f"{seed}/{number}")
        done = []
        await asyncio.sleep(rng.random())  # people do not come all at once
        while time.monotonic() - began < seconds:
            draw, kind = rng.random(), "plain"
            for name, share in shares.items():
                draw -= share
                if draw < 0:
                    kind = name
                    break
            length = rng.choice(list(inputs.speeches))
            attempt = Attempt(kind, "", length, time.monotonic() - began)
            await _attempt(attempt, url, headers, inputs, rng, controls or {}, patience_s)
            done.append(attempt)
            if attempt.verdict == "busy":
                await asyncio.sleep(float(attempt.detail or 1) * (0.5 + rng.random()))
        return done

    return [attempt for mine in await asyncio.gather(*map(client, range(clients))) for attempt in mine]


async def _attempt(
    attempt: Attempt,
    url: str,
    headers: dict[str, str],
    inputs: Inputs,
    rng: random.Random,
    controls: dict[str, Any],
    patience_s: float,
) -> None:
    began = time.monotonic()
    slow = attempt.kind == "slow"
    # A small receive buffer, or the kernel would read for the slow one.
    options = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)] if slow else None
    # Without certificates, whose loading would cost each attempt 40 ms of a CPU that the service may need.
    transport = httpx.AsyncHTTPTransport(verify=False, socket_options=options)
    detail, form = "", inputs.form(attempt.seconds_of_speech, **controls)
    if attempt.kind == "garbage":
        detail, form = inputs.garbage(rng, attempt.seconds_of_speech)
    elif attempt.kind == "hang_up":
        detail = rng.choice(("while sending", "before the answer", "after the first bytes"))
    attempt.detail = detail
    data = bytearray()
    try:
        async with httpx.AsyncClient(
            base_url=url,
            headers=headers,
            transport=transport,
            timeout=httpx.Timeout(patience_s),
            trust_env=False,
        ) as http:
            if detail == "while sending":
                form = _sent_in_part(http.build_request("POST", "/v1/render", **form))
            reading = _read(http, form, attempt, began, data, slow, detail)
            if detail == "before the answer":
                await asyncio.wait_for(reading, 0.05 + 0.5 * rng.random())
            else:
                await reading
    except (_GaveUp, TimeoutError):
        attempt.verdict = "hung_up"
    except httpx.HTTPError as error:
        attempt.verdict = "broken" if attempt.status == 200 else "lost"
        attempt.message = f"{type(error).__name__}: {error}"
    attempt.seconds = time.monotonic() - began
    if attempt.verdict == "finished":
        await asyncio.to_thread(judge, attempt, bytes(data))


async def _read(
    http: httpx.AsyncClient,
    form: dict[str, Any],
    attempt: Attempt,
    began: float,
    data: bytearray,
    slow: bool,
    detail: str,
) -> None:
    async with http.stream("POST", "/v1/render", **form) as answer:
        attempt.status, attempt.answer_s = answer.status_code, time.monotonic() - began
        if answer.status_code != 200:
            attempt.message = (await answer.aread()).decode(errors="replace")[:500]
            attempt.verdict = "refused" if answer.status_code < 500 else "failed"
            if answer.status_code == 429:
                attempt.verdict, attempt.detail = "busy", answer.headers.get("retry-after", "")
            return
        async for piece in answer.aiter_raw(4_096 if slow else None):
            data += piece
            if attempt.first_fragment_s is None and b"moof" in data:
                attempt.first_fragment_s = time.monotonic() - began
            if detail == "after the first bytes":
                raise _GaveUp
            if slow:
                await asyncio.sleep(0.25)
    attempt.verdict = "accepted" if attempt.kind == "garbage" else "finished"


def judge(attempt: Attempt, data: bytes) -> None:
    """A finished stream must be a video with exactly the frames its speech has, and with sound."""
    wanted = int(attempt.seconds_of_speech * FPS + 0.5)
    try:
        attempt.frames, sound = count_frames(data)
    except (av.FFmpegError, ValueError) as error:
        attempt.verdict, attempt.message = "broken", f"{len(data)} bytes that are no video: {error}"
        return
    if attempt.frames != wanted or not sound:
        attempt.verdict = "broken"
        attempt.message = f"{attempt.frames} of {wanted} frames, {sound} packets of sound"


def count_frames(data: bytes) -> tuple[int, int]:
    """(video packets, audio packets) of an MP4. Raises av.FFmpegError when it is none."""
    with av.open(io.BytesIO(data)) as container:
        counts = {"video": 0, "audio": 0}
        for packet in container.demux():
            if packet.size:
                counts[packet.stream.type] += 1
    return counts["video"], counts["audio"]


def speech_wav(samples: np.ndarray[Any, Any], seconds: float) -> bytes:
    """The first `seconds` of speech float32 [n] at 16 kHz, repeated as often as needed, as a WAV file."""
    wanted = round(seconds * RATE)
    pcm = (np.resize(samples, wanted) * 32_767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm.tobytes())
    return buffer.getvalue()


class _GaveUp(Exception):
    """A client hangs up on purpose."""


def _sent_in_part(request: httpx.Request) -> dict[str, Any]:
    """The same request, given up in the middle of its body."""
    body = request.read()

    async def half() -> AsyncIterator[bytes]:
        yield body[: len(body) // 2]
        await asyncio.sleep(0.05)
        raise _GaveUp

    return {
        "content": half(),
        "headers": {"content-type": request.headers["content-type"], "content-length": str(len(body))},
    }
