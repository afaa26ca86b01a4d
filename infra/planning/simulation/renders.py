"""One render over the simulated stages, in the order and with the overlap of `serve.flow.render`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import simpy

from infra.planning.rates import Rates
from infra.planning.simulation.stages import Call, Stage
from infra.planning.workload import PlannedJob

DECODING = 2
"""Chunks under way at a time: `serve.flow.DECODING`."""
SPEECH_WINDOW_S = 10.0
"""Seconds of a call to the speech encoder."""
MOTION_WINDOW = 40
"""New frames of a call to the motion sampler."""
CPU_CHUNK, GPU_CHUNK = 8, 25
"""Frames of a call to the decoder: `decoder.chunk`."""


@dataclass(frozen=True)
class Grain:
    """Frames of one call; larger ones make a simulation faster, and coarser."""

    chunk: int
    window: int = MOTION_WINDOW

    @classmethod
    def real(cls, rates: Rates) -> Grain:
        """As the service calls its stages."""
        return cls(GPU_CHUNK if rates.on_gpu else CPU_CHUNK)


@dataclass(frozen=True)
class Work:
    """What one job takes, in seconds."""

    inputs: float
    identify: float
    speech: tuple[float, int]
    """Of each call, and calls."""
    motion: tuple[float, int]
    paint: tuple[float, int]
    encode: float
    """Of each of these calls, beside the next one's painting."""
    finish: float
    publish: float

    @property
    def alone(self) -> float:
        """From its claim to its output when nothing else runs: motion of later windows is made while frames are."""
        return self.inputs + alone_s(self) + self.finish + self.publish


def work_of(job: PlannedJob, rates: Rates, grain: Grain) -> Work:
    """Raises BadInput for a size that was not measured."""
    decoder, motion = rates.decoder_at(job.size), rates.motion_at(job.steps)
    speeches = max(1, math.ceil(job.speech_s / SPEECH_WINDOW_S))
    windows = max(1, math.ceil(job.frames / grain.window))
    chunks = max(1, math.ceil(job.frames / grain.chunk))
    decode = decoder.per_unit * job.frames / chunks
    return Work(
        inputs=rates.inputs.seconds(job.speech_s),
        identify=decoder.per_job,
        speech=(rates.speech.seconds(job.speech_s) / speeches, speeches),
        motion=(motion.seconds(job.frames) / windows, windows),
        paint=(decode * (1 - rates.encoding), chunks),
        encode=decode * rates.encoding,
        finish=rates.finish.seconds(job.speech_s),
        publish=rates.publish.seconds(),
    )


def alone_s(work: Work) -> float:
    """Seconds of a render's calls when every stage has one replica, and nobody else's calls are there."""
    at = work.identify
    painted, read = at, [at, at]
    done = 0
    for window, ready in enumerate(_ready(work)):
        at += (work.speech[0] if _needs_speech(work, window) else 0.0) + work.motion[0]
        for _ in range(ready - done):
            painted = max(at, painted, read[-DECODING]) + work.paint[0]
            read.append(max(read[-1], painted + work.encode))
        done = ready
    return read[-1]


def frames_of(
    env: simpy.Environment, stages: Mapping[str, Stage], work: Work, told: Callable[[float], None]
) -> Generator[simpy.Event, Any, None]:
    """The calls of a render; `told` the part that is done after each chunk.

    What it has asked for is dropped when it is stopped.
    """
    calls = deque([stages["decoder"].call(0.0, work.identify)])  # on a thread of its own
    window: Call | None = None
    steps = deque(_window_calls(work))
    try:
        yield calls[0].done
        calls.popleft()
        ready = done = begun = 0
        while done < work.paint[1]:
            while begun < ready and len(calls) < DECODING:
                calls.append(stages["decoder"].call(work.paint[0], work.encode))
                begun += 1
            if window is None and steps:
                stage, seconds, _ = steps[0]
                window = stages[stage].call(seconds)
            waits = [call.done for call in (window, calls[0] if calls else None) if call is not None]
            yield waits[0] if len(waits) == 1 else simpy.AnyOf(env, waits)
            if window is not None and window.done.triggered:
                ready = steps.popleft()[2] or ready
                window = None
            if calls and calls[0].done.triggered:
                calls.popleft()
                done += 1
                told(done / work.paint[1])
    finally:
        for call in calls:
            stages["decoder"].drop(call)
        if window is not None:
            stages[steps[0][0]].drop(window)


def _window_calls(work: Work) -> list[tuple[str, float, int]]:
    """(stage, seconds, chunks that can be decoded afterwards) of every call before the decoder's."""
    calls = []
    for window, ready in enumerate(_ready(work)):
        if _needs_speech(work, window):
            calls.append(("speech", work.speech[0], 0))
        calls.append(("motion", work.motion[0], ready))
    return calls


def _ready(work: Work) -> list[int]:
    """Chunks whose motion is known after each window."""
    windows, chunks = work.motion[1], work.paint[1]
    return [chunks if window == windows else chunks * window // windows for window in range(1, windows + 1)]


def _needs_speech(work: Work, window: int) -> bool:
    """Whether another window of speech comes before this one of motion."""
    speeches, windows = work.speech[1], work.motion[1]
    return window * speeches // windows > (window - 1) * speeches // windows if window else True
