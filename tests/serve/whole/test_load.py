"""More clients than room, some of them rude: who is let in gets the whole video, the others 429; nothing leaks."""

from __future__ import annotations

import asyncio
import io
from collections import Counter

import av
import numpy as np
import pytest

from tests.benchmarks.serve_clients import Attempt, Inputs, drive, judge
from tests.benchmarks.serve_load import settled, summary
from tests.serve.whole.conftest import STREAMS

SHARES = {"hang_up": 0.15, "garbage": 0.15, "slow": 0.10}


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return Inputs([0.5, 1.0, 2.5])


def test_eight_clients_for_fifteen_seconds(url: str, inputs: Inputs) -> None:
    attempts = asyncio.run(drive(url, inputs, clients=8, seconds=15, shares=SHARES, controls={"steps": 2}))
    wrong = [attempt for attempt in attempts if not attempt.expected]
    assert not wrong, wrong[:5]
    verdicts = Counter(attempt.verdict for attempt in attempts)
    assert verdicts["finished"] >= 3, verdicts
    assert verdicts["busy"] >= 1, f"eight clients, {STREAMS} streams: {verdicts}"
    left, figures = asyncio.run(settled(url))
    assert left == 0, "renders are still under way without any client"
    assert sum(figures["ifmdm_stage_pending_calls"].values()) == 0
    report = summary(attempts, 15)
    assert report["wrong"] == []
    assert report["first_fragment_s"]["p50"] <= report["render_s"]["most"]


def video(frames: int, sound: bool = True) -> bytes:
    """A small MP4."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        pictures = container.add_stream("libx264", rate=25)
        pictures.width = pictures.height = 64
        voice = container.add_stream("aac", rate=16_000) if sound else None
        for _ in range(frames):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode())
        if voice is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), layout="mono")
            silence.sample_rate = 16_000
            container.mux(voice.encode(silence))
            container.mux(voice.encode())
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (video(25), "finished"),
        (video(24), "broken"),
        (video(25, sound=False), "broken"),
        (video(25)[:1_000], "broken"),
        (b"no video", "broken"),
        (b"", "broken"),
    ],
    ids=["whole", "a frame short", "no sound", "cut off", "something else", "nothing"],
)
def test_what_counts_as_finished(data: bytes, verdict: str) -> None:
    attempt = Attempt("plain", "", 1.0, 0.0, verdict="finished")
    judge(attempt, data)
    assert attempt.verdict == verdict
    assert attempt.expected == (verdict == "finished")
