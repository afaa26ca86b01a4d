"""What a load takes, by formulas alone: every figure with how it was made."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.errors import BadInput
from infra.planning.rates import FPS, Rates
from infra.planning.s3_costs import (
    DAY_S,
    GET_DOLLARS,
    JOBS_PREFIX_WRITES,
    PER_JOB,
    PER_WORKER_DAY,
    PREFIX_WRITES_MOST,
    PUT_DOLLARS,
)

STAGES = ("speech", "motion", "decoder")


class Load(BaseModel):
    """What is to be done, and how full the machines may be."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    renders_per_day: float = Field(gt=0, le=1e10, description="jobs a day")
    speech_s: float = Field(gt=0, le=36_000, description="seconds of speech of a mean job")
    steps: int = Field(8, ge=1, le=1000, description="denoising steps per window")
    size: int | None = Field(None, ge=1, description="side of the output in pixels; None is the model's own")
    peak: float = Field(2.5, ge=1, description="the busiest hours' load / the mean load")
    used: float = Field(0.7, gt=0, le=1, description="part of the time that a replica may work at the peak")
    slots: int = Field(8, ge=1, description="jobs that one worker has under way at a time")
    data_hours: float = Field(0.0, ge=0, description="hours of video to cut and encode")
    data_workers: int = Field(1, ge=1, description="workers that do that")
    device_hour: float | None = Field(
        None, ge=0, description="$ for an hour of an accelerator, or of a CPU core"
    )


@dataclass(frozen=True)
class Figure:
    """One answer."""

    name: str
    value: float
    unit: str
    formula: str
    """How it was made, with the numbers in it."""

    def as_dict(self) -> dict[str, object]:
        return {"name": self.name, "value": self.value, "unit": self.unit, "formula": self.formula}


def demand(load: Load, rates: Rates) -> list[Figure]:
    """All figures. Raises BadInput for a size or an extraction that was not measured."""
    return list(_figures(load, rates))


def work_s(load: Load, rates: Rates) -> dict[str, float]:
    """Seconds of work of one mean job, by stage. Raises BadInput for a size that was not measured."""
    frames = load.speech_s * FPS
    return {
        "speech": rates.speech.seconds(load.speech_s),
        "motion": rates.motion_at(load.steps).seconds(frames),
        "decoder": rates.decoder_at(load.size).seconds(frames),
    }


def _figures(load: Load, rates: Rates) -> Iterator[Figure]:
    mean, peak = load.renders_per_day / DAY_S, load.renders_per_day / DAY_S * load.peak
    yield Figure("renders", mean, "/s", f"{load.renders_per_day:,.0f} a day / 86,400 s")
    yield Figure("renders at the peak", peak, "/s", f"{mean:.4g}/s x {load.peak:g}")
    work = work_s(load, rates)
    devices_at_peak = devices_at_mean = 0.0
    per_replica, what = (1.0, "GPUs") if rates.on_gpu else (rates.cores, "CPU cores")
    for stage in STAGES:
        busy = peak * work[stage]
        share = busy / load.used
        yield Figure(f"{stage}: work of a job", work[stage], "s", _how(stage, load, rates))
        yield Figure(
            f"{stage}: replicas",
            math.ceil(share - 1e-9),
            "",
            f"{peak:.4g}/s x {work[stage]:.4g} s / {load.used:g} used",
        )
        yield Figure(
            f"{stage}: {what}", share * per_replica, "",
            f"{share:.4g} replicas x {per_replica:g}; a part of one can be shared with other stages",
        )  # fmt: skip
        devices_at_peak += share * per_replica
        devices_at_mean += mean * work[stage] / load.used * per_replica
    yield Figure(
        what, math.ceil(devices_at_peak - 1e-9), "", f"stages together at the peak: {devices_at_peak:.4g}"
    )
    yield from _workers(load, rates, peak, work)
    yield from _requests(load, rates, peak, work)
    if load.device_hour is not None:
        yield from _money(load, rates, devices_at_mean, devices_at_peak, what, work)
    if load.data_hours:
        yield from _extraction(load, rates)


def hold_s(load: Load, rates: Rates, work: dict[str, float]) -> float:
    """Seconds for which a job has a slot when no stage lets it wait: stages one after the other, at the most."""
    around = (rates.claim, rates.inputs, rates.finish, rates.publish)
    return sum(cost.seconds(load.speech_s) for cost in around) + sum(work.values())


def _workers(load: Load, rates: Rates, peak: float, work: dict[str, float]) -> Iterator[Figure]:
    hold = hold_s(load, rates, work)
    slots = math.ceil(peak * hold / load.used - 1e-9)
    yield Figure(
        "job slots", slots, "", f"{peak:.4g}/s x {hold:.4g} s that a job has its slot / {load.used:g} used"
    )
    workers = math.ceil(slots / load.slots)
    yield Figure("job workers", workers, "", f"{slots} slots / {load.slots} a worker")
    own = rates.inputs.seconds(load.speech_s) + rates.finish.seconds(load.speech_s)
    yield Figure(
        "job workers: CPU cores", peak * own / load.used, "",
        f"{peak:.4g}/s x {own:.4g} s of inputs, mux and signature / {load.used:g} used",
    )  # fmt: skip


def _requests(load: Load, rates: Rates, peak: float, work: dict[str, float]) -> Iterator[Figure]:
    slots = load.renders_per_day / DAY_S * hold_s(load, rates, work) / load.used
    workers = math.ceil(slots / load.slots)
    of_jobs, of_workers = PER_JOB.times(load.renders_per_day), PER_WORKER_DAY.times(workers)
    total = of_jobs.plus(of_workers)
    for kind, each, beside in (
        ("PUT", PER_JOB.put, of_workers.put), ("GET and HEAD", PER_JOB.get, of_workers.get),
        ("LIST", PER_JOB.list, of_workers.list),
    ):  # fmt: skip
        count = {"PUT": total.put, "GET and HEAD": total.get, "LIST": total.list}[kind]
        yield Figure(
            f"S3 {kind}", count, "/day",
            f"{each:g} a job x {load.renders_per_day:,.0f} + {beside:,.0f} of {workers} workers (mean load)",
        )  # fmt: skip
    yield Figure(
        "S3 requests", total.dollars, "$/day",
        f"${1000 * PUT_DOLLARS:g} per 1,000 PUT and LIST, ${1000 * GET_DOLLARS:g} per 1,000 GET and HEAD",
    )  # fmt: skip
    writes = peak * JOBS_PREFIX_WRITES
    yield Figure(
        "S3 head-room of the busiest prefix", PREFIX_WRITES_MOST / writes, "times",
        f"{PREFIX_WRITES_MOST:,.0f} writes/s / ({peak:.4g} jobs/s x {JOBS_PREFIX_WRITES:g} below jobs/)",
    )  # fmt: skip


def _money(
    load: Load, rates: Rates, at_mean: float, at_peak: float, what: str, work: dict[str, float]
) -> Iterator[Figure]:
    assert load.device_hour is not None
    requests = next(f.value for f in _requests(load, rates, 1.0, work) if f.name == "S3 requests")
    scaled, fixed = at_mean * 24 * load.device_hour, math.ceil(at_peak - 1e-9) * 24 * load.device_hour
    yield Figure(
        "money, scaled with the load", scaled + requests, "$/day",
        f"{at_mean:.4g} {what} at the mean x 24 h x ${load.device_hour:g} + ${requests:.2f} of requests",
    )  # fmt: skip
    yield Figure(
        "money for 1,000 renders", (scaled + requests) / load.renders_per_day * 1000, "$", "of the line above"
    )
    yield Figure(
        "money, the peak's machines all day", fixed + requests, "$/day",
        f"{math.ceil(at_peak - 1e-9)} {what} x 24 h x ${load.device_hour:g} + ${requests:.2f} of requests",
    )  # fmt: skip


def _extraction(load: Load, rates: Rates) -> Iterator[Figure]:
    if rates.extraction is None:
        raise BadInput(
            "these rates have none for datasets",
            fix="ifmdm plan rates --datasets REPORT adds it, or leave --hours-of-data out",
        )
    each = rates.extraction.seconds(1)
    yield Figure(
        "extraction", load.data_hours * each / load.data_workers / 3600, "hours",
        f"{load.data_hours:g} h of video x {each:.4g} s of one worker / {load.data_workers} workers",
    )  # fmt: skip


def _how(stage: str, load: Load, rates: Rates) -> str:
    frames = load.speech_s * FPS
    cost, units, of = {
        "speech": (rates.speech, load.speech_s, "s of speech"),
        "motion": (rates.motion_at(load.steps), frames, f"frames at {load.steps} steps"),
        "decoder": (rates.decoder_at(load.size), frames, "frames"),
    }[stage]
    fixed = f"{1000 * cost.per_job:.3g} ms + " if cost.per_job else ""
    return f"{fixed}{units:g} {of} x {1000 * cost.per_unit:.3g} ms"
