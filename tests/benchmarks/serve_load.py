"""Load over HTTP: what the service does when more people come than it has room for, and what batching brings.

    python -m tests.benchmarks.serve_load --clients 50 --seconds 120 --out bench-serve-load.json
    python -m tests.benchmarks.serve_load --batching --clients 8 --seconds 60 --runs 3 --out bench-serve-batching.json
    python -m tests.benchmarks.serve_load --url http://host:8000 --token …     a service that runs (memory unknown)

Without --url, `ifmdm serve` is started with its demo configuration and ended again. Clients send speech of mixed
lengths; 10 % hang up, 10 % send garbage, 5 % read slowly. With --batching all behave, and every stage with batches of
one takes turns with every stage as configured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from tests.benchmarks.serve_clients import SHARES, Attempt, Inputs, drive
from tests.service_process import ROOT, ServiceProcess

SAMPLE_EVERY_S = 2.0
SETTLE_S = 60.0
"""Seconds after the load within which every render must have ended."""


def summary(attempts: Sequence[Attempt], wall_s: float) -> dict[str, Any]:
    """Counts by kind and verdict, what went wrong, and times in seconds."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for attempt in attempts:
        counts[attempt.kind][attempt.verdict] += 1
    finished = [attempt for attempt in attempts if attempt.verdict == "finished"]
    plain = [attempt for attempt in finished if attempt.kind == "plain"]
    frames = sum(attempt.frames for attempt in finished)
    return {
        "attempts": len(attempts),
        "verdicts": {kind: dict(verdicts) for kind, verdicts in sorted(counts.items())},
        "wrong": [
            {"kind": a.kind, "detail": a.detail, "verdict": a.verdict, "status": a.status, "message": a.message}
            for a in attempts
            if not a.expected
        ][:50],
        "busy_answer_s": percentiles([a.answer_s for a in attempts if a.verdict == "busy"]),
        "refused_answer_s": percentiles([a.answer_s for a in attempts if a.verdict == "refused"]),
        "first_fragment_s": percentiles([a.first_fragment_s for a in plain if a.first_fragment_s is not None]),
        "render_s": percentiles([a.seconds for a in plain]),
        "real_time_ratio": percentiles([a.seconds / a.seconds_of_speech for a in plain]),
        "frames_per_s": round(frames / wall_s, 2),
        "wall_s": round(wall_s, 1),
    }  # fmt: skip


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """p50, p95, p99 and the largest; None of nothing."""
    if not values:
        return None
    points = np.percentile(values, [50, 95, 99, 100])
    return dict(zip(("p50", "p95", "p99", "most"), (round(float(point), 3) for point in points)))


class Memory:
    """MB of the service's processes over time."""

    def __init__(self, read: Callable[[], dict[str, float]]) -> None:
        self._read, self._began = read, time.monotonic()
        self.samples: list[tuple[float, dict[str, float]]] = []

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            self.samples.append((time.monotonic() - self._began, await asyncio.to_thread(self._read)))
            await asyncio.sleep(SAMPLE_EVERY_S)

    def over(self, first_s: float, last_s: float) -> dict[str, Any]:
        """Slopes in MB a minute between two moments: of the sum, and of each kind of process that was there."""
        part = [(at, by) for at, by in self.samples if first_s <= at <= last_s]
        if len(part) < 3:
            return {}
        times = np.array([at for at, _ in part]) / 60
        kinds = sorted(set.intersection(*(set(by) for _, by in part)))
        series = {kind: [by[kind] for _, by in part] for kind in kinds}
        total = [sum(by.values()) for _, by in part]
        return {
            "mb_first": round(total[0], 1),
            "mb_last": round(total[-1], 1),
            "mb_per_minute": round(float(np.polyfit(times, total, 1)[0]), 2),
            "mb_per_minute_by_process": {
                kind: round(float(np.polyfit(times, values, 1)[0]), 2) for kind, values in series.items()
            },
        }


def scrape(url: str, token: str | None = None) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """The gateway's figures: name -> labels -> value, summed over gateways."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    answer = httpx.get(f"{url}/metrics", headers=headers, timeout=30).raise_for_status()
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(lambda: defaultdict(float))
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "gateway"))
            found[sample.name][labels] += sample.value
    return found


def batches(before: dict[str, Any], after: dict[str, Any]) -> dict[str, dict[str, float]]:
    """By stage: calls, and the share of them that were not alone in their batch."""
    calls: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    for name, tally, wanted in (("count", calls, None), ("bucket", alone, "1.0")):
        series = f"ifmdm_stage_batch_calls_{name}"
        for labels, value in after.get(series, {}).items():
            fields = dict(labels)
            if wanted is None or fields.get("le") == wanted:
                tally[fields["stage"]] += int(value - before.get(series, {}).get(labels, 0))
    return {
        stage: {"calls": count, "share_in_company": round(1 - alone[stage] / count, 4) if count else 0.0}
        for stage, count in calls.items()
    }


def stage_rates(before: dict[str, Any], after: dict[str, Any]) -> dict[str, dict[str, float]]:
    """By stage: frames, working seconds, and frames in a second of work, which is what sizing needs."""
    totals: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for name in ("frames", "busy_seconds"):
        series = f"ifmdm_stage_{name}_total"
        for labels, value in after.get(series, {}).items():
            totals[dict(labels)["stage"]][name] += value - before.get(series, {}).get(labels, 0)
    return {
        stage: {
            "frames": round(sums["frames"]),
            "busy_s": round(sums["busy_seconds"], 2),
            "frames_per_busy_s": round(sums["frames"] / sums["busy_seconds"], 1)
            if sums["busy_seconds"]
            else 0.0,
        }
        for stage, sums in totals.items()
    }


async def under_load(
    url: str,
    memory: Callable[[], dict[str, float]] | None,
    options: argparse.Namespace,
    shares: dict[str, float],
) -> dict[str, Any]:
    """One load: its summary, batches, memory, and whether every render ended afterwards."""
    inputs = Inputs(options.lengths)
    before, watched = await asyncio.to_thread(scrape, url, options.token), Memory(memory or dict)
    watching = asyncio.create_task(watched.watch()) if memory else None
    late: list[float] = []
    lagging = asyncio.create_task(_lag(late))
    began = time.monotonic()
    attempts = await drive(
        url, inputs, clients=options.clients, seconds=options.seconds, seed=options.seed, shares=shares,
        token=options.token, controls={"steps": options.steps},
    )  # fmt: skip
    wall = time.monotonic() - began
    lagging.cancel()
    if watching:
        watching.cancel()
    left, after = await settled(url, options.token)
    return {
        **summary(attempts, wall),
        "clients_own_lag_s": percentiles(late),
        "batches": batches(before, after),
        "stages": stage_rates(before, after),
        "renders_left_under_way": left,
        "memory_second_half": watched.over(options.seconds / 2, options.seconds),
    }


async def _lag(late: list[float]) -> None:
    """How late this process's own event loop is: that much of the times above is not the service's."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(0.1)
        late.append(time.monotonic() - began - 0.1)


async def settled(url: str, token: str | None = None) -> tuple[float, dict[str, Any]]:
    """Renders that are still under way when all clients are gone (0 but for a leak), and the figures then."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        figures = await asyncio.to_thread(scrape, url, token)
        left = sum(figures["ifmdm_renders_under_way"].values())
        if not left or time.monotonic() > deadline:
            return left, figures
        await asyncio.sleep(0.5)


def one_load(options: argparse.Namespace) -> dict[str, Any]:
    """The mixed load, on a running service or one of our own."""
    if options.url:
        return asyncio.run(under_load(options.url, None, options, SHARES))
    with (
        tempfile.TemporaryDirectory() as folder,
        ServiceProcess(Path(folder), *options.set, config=options.config) as service,
    ):
        asyncio.run(_warm(service.url, options))
        return asyncio.run(under_load(service.url, service.memory_mb, options, SHARES))


def batching(options: argparse.Namespace) -> dict[str, Any]:
    """Throughput with batches as configured ÷ with batches of one, in turns."""
    alone = [f"{stage}.batch=1" for stage in ("speech", "motion", "decoder")]
    streams = f"gateway.limits.streams={options.clients}"  # nobody is turned away
    cases = {"on": [], "off": alone}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in cases}
    for _ in range(options.runs):
        for name, settings in cases.items():
            with (
                tempfile.TemporaryDirectory() as folder,
                ServiceProcess(
                    Path(folder), streams, *options.set, *settings, config=options.config
                ) as service,
            ):
                asyncio.run(_warm(service.url, options))
                runs[name].append(asyncio.run(under_load(service.url, None, options, {})))
            print(name, runs[name][-1]["frames_per_s"], "frames/s", runs[name][-1]["batches"], flush=True)
    rates = {name: statistics.median(run["frames_per_s"] for run in done) for name, done in runs.items()}
    return {"frames_per_s": rates, "on_by_off": round(rates["on"] / rates["off"], 3), "runs": runs}


async def _warm(url: str, options: argparse.Namespace) -> None:
    await drive(url, Inputs([1.0]), clients=2, seconds=0.5, shares={}, token=options.token)


def circumstances() -> dict[str, Any]:
    """What a figure is worth nothing without."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit.stdout.strip(),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs",
        "load_before": round(os.getloadavg()[0], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="a running service")
    parser.add_argument("--token", help="for it")
    parser.add_argument("--config", type=Path, default=ROOT / "configs/serve/demo.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="settings of the service")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument(
        "--lengths", type=float, nargs="+", default=[1.0, 2.0, 4.0, 9.0], help="of speech, seconds"
    )
    parser.add_argument("--steps", type=int, default=8, help="denoising steps of every render")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batching", action="store_true", help="compare with batches of one")
    parser.add_argument("--runs", type=int, default=3, help="of each case, with --batching")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    where = circumstances()
    result = batching(options) if options.batching else one_load(options)
    asked = {name: value for name, value in vars(options).items() if name not in ("token", "url", "out")}
    options.out.write_text(json.dumps({**where, "options": asked, **result}, indent=1, default=str) + "\n")
    print(json.dumps({name: value for name, value in result.items() if name != "runs"}, indent=1))


if __name__ == "__main__":
    main()
