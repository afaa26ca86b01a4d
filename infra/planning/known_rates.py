"""Rates that come with ifmdm: the bundled model on a small CPU machine, to try a plan without measuring."""

from __future__ import annotations

from datetime import UTC, datetime

from infra.planning.from_bench import AROUND_JOBS, AROUND_S, CLAIM, PUBLISH_S, START
from infra.planning.rates import OWN_SIZE, Cost, Rates


def _frames(per_second: float, **more: float) -> Cost:
    return Cost(per_unit=1 / per_second, unit="frame", samples=3, **more)


DEMO_CPU = Rates(
    source="docs/bench.json (ifmdm bench --json --repeats 3), docs/bench-datasets.json, docs/bench-jobs-overhead.json",
    machine="Intel(R) Xeon(R) Processor, 2 threads; torch 2.13.0+cpu, Python 3.11.7",
    device="cpu",
    measured_at=datetime(2026, 11, 22, tzinfo=UTC),
    cores=2,
    speech=Cost(per_unit=25 / 7960, unit="video second", samples=3, low=0.94, high=1.2),
    motion={
        4: _frames(1111, low=0.98, high=1.35),
        8: _frames(576.8, low=0.99, high=1.23),
        16: _frames(296.7, low=1.0, high=1.0),
        50: _frames(82.51, low=0.86, high=1.04),
    },
    decoder={
        OWN_SIZE: Cost(
            per_job=0.0186, per_unit=1 / 83.77 + 1 / 475.2, unit="frame", samples=3, low=0.88, high=1.06
        ),
        256: Cost(
            per_job=0.0186, per_unit=1 / 83.77 + 1 / 475.2, unit="frame", samples=3, low=0.88, high=1.06
        ),
        512: Cost(
            per_job=0.0186, per_unit=1 / 83.77 + 1 / 475.2 + 1 / 50.62 - 1 / 67.37, unit="frame", samples=3,
            low=0.88, high=1.06,
        ),
    },
    encoding=0.1499,
    claim=CLAIM,
    inputs=Cost(per_job=0.0764, per_unit=25 / 12_039, unit="video second", samples=3, low=0.95, high=1.46),
    finish=Cost(per_job=AROUND_S, samples=AROUND_JOBS),
    publish=Cost(per_job=PUBLISH_S, samples=AROUND_JOBS),
    start=START,
    extraction=Cost(per_unit=3600 * 25 * (1 / 138.1 + 1 / 155.83), unit="hour of video", samples=5),
)  # fmt: skip
KNOWN: dict[str, Rates] = {"demo-cpu": DEMO_CPU}
"""By the name that `--rates` takes."""
