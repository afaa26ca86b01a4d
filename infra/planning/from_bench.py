"""Rates from the figures of `ifmdm bench --json`, with what a job costs beside its render from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.errors import BadInput
from infra.planning.rates import FPS, OWN_SIZE, Cost, Rates

CLAIM = Cost(per_job=0.06, samples=500)
"""Half a look for a free slot (jobs.worker.FULL_S), and a claim: docs/bench-jobs-s3.json, `claim_per_s`."""
AROUND_S, PUBLISH_S, AROUND_JOBS = 0.068, 0.042, 10
"""Seconds around a render, and from its verdict to its output: docs/bench-jobs-overhead.json, medians of so many."""
START = Cost(per_job=10.0, samples=1)
"""Loading torch and a model: the slower end of what was seen (docs/performance.md, Serving, Scaling)."""
_SIDES = re.compile(r"(\d+)x\1, (\d+) steps\b")


class BenchFigure(BaseModel):
    """One of the figures."""

    model_config = ConfigDict(extra="ignore")

    stage: str
    setting: str
    value: float
    unit: str
    low: float = Field(description="slowest run")
    high: float = Field(description="fastest run")
    runs: int


class BenchReport(BaseModel):
    """What `ifmdm bench --json` prints."""

    model_config = ConfigDict(extra="ignore")

    machine: str
    figures: list[BenchFigure]


def rates_of(
    report: BenchReport, source: str, measured_at: datetime, device: str = "cpu", cores: float = 2
) -> Rates:
    """Rates of the bench's bundle.

    Args:
        device: cpu, or the accelerator that it ran on.
        cores: CPU threads that it ran with.

    Raises BadInput naming a figure that is missing.
    """
    figures = report.figures
    speech = (
        _per_frame(_one(figures, "speech features"))
        .faster(1 / FPS)
        .model_copy(update={"unit": "video second"})
    )
    motion = {
        int(figure.setting.split(" steps")[0]): _per_frame(figure)
        for figure in figures
        if figure.stage == "motion"
    }
    if not motion:
        raise _missing("motion")
    identity = min(_all(figures, "identity"), key=lambda figure: figure.value)
    frames, encode = _one(figures, "8-bit frames"), _one(figures, "encode and mux")
    own = _per_frame(frames)
    decoder = {
        OWN_SIZE: own.model_copy(
            update={"per_job": identity.value / 1000, "per_unit": own.per_unit + 1 / encode.value}
        )
    }
    whole = {
        int(found[1]): figure
        for figure in _all(figures, "end to end")
        if (found := _SIDES.match(figure.setting)) and found[2] == "8"
    }
    side = int(frames.setting.split("x")[0])
    for size, figure in sorted(whole.items()):
        # What the whole takes longer at another size is finishing and encoding; both are the decoder's.
        longer = 1 / figure.value - 1 / whole[side].value if side in whole else 0.0
        at_own = decoder[OWN_SIZE]
        decoder[size] = at_own.model_copy(update={"per_unit": at_own.per_unit + max(0.0, longer)})
    photo, faces, sound = (_one(figures, stage) for stage in ("read photo", "find faces", "read audio"))
    return Rates(
        source=source,
        machine=report.machine,
        device=device,
        measured_at=measured_at,
        cores=cores,
        speech=speech,
        motion=motion,
        decoder=decoder,
        encoding=(1 / encode.value) / (1 / frames.value + 1 / encode.value),
        claim=CLAIM,
        inputs=_cost(faces, (photo.value + faces.value) / 1000, FPS / sound.value, "video second"),
        finish=Cost(per_job=AROUND_S, samples=AROUND_JOBS),
        publish=Cost(per_job=PUBLISH_S, samples=AROUND_JOBS),
        start=START,
    )


class CaseSpeed(BaseModel):
    """Frames a second of one case."""

    clips_fps: float
    features_fps: float


class DatasetReport(BaseModel):
    """What `tests/benchmarks/bench_datasets.py` writes."""

    model_config = ConfigDict(extra="ignore")

    runs: int
    median: dict[str, CaseSpeed]


def extraction_of(report: DatasetReport) -> Cost:
    """Seconds of one worker for an hour of video: cutting it, then both features. Raises BadInput."""
    found = report.median.get("pipeline")
    if found is None:
        raise _missing("pipeline")
    seconds = 3600 * FPS * (1 / found.clips_fps + 1 / found.features_fps)
    return Cost(per_unit=seconds, unit="hour of video", samples=report.runs)


def _per_frame(figure: BenchFigure) -> Cost:
    return _cost(figure, 0.0, 1 / figure.value, "frame")


def _cost(figure: BenchFigure, per_job: float, per_unit: float, unit: str) -> Cost:
    """With the spread of that figure, as shares of time: its fastest and its slowest run."""
    shares = sorted((figure.value / figure.low, figure.value / figure.high))
    if figure.unit == "ms":
        shares = sorted((figure.low / figure.value, figure.high / figure.value))
    return Cost(
        per_job=per_job, per_unit=per_unit, unit=unit, samples=figure.runs, low=shares[0], high=shares[1]
    )


def _all(figures: Sequence[BenchFigure], stage: str) -> list[BenchFigure]:
    found = [figure for figure in figures if figure.stage == stage]
    if not found:
        raise _missing(stage)
    return found


def _one(figures: Sequence[BenchFigure], stage: str) -> BenchFigure:
    return _all(figures, stage)[0]


def _missing(stage: str) -> BadInput:
    return BadInput(f"the report has no figure {stage!r}", fix="give the output of ifmdm bench --json")
