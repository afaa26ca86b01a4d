"""How much of a plain loop's speed training through Ray Train keeps, and how long steps wait for data.

    python -m tests.benchmarks.bench_training DATASET --out bench-training.json

Both stages with configs/demo, one batch size, one thread a process. Cases run in turns, so that a slow minute of the
machine touches all alike, each in a process of its own (a Ray that ends leaves threads that end its process a minute
later); medians are reported with all runs beside them. Rates are taken between two logged steps:
the first WARM_UP steps, the start of Ray and the last checkpoint are outside.

    script     what one would write first: read, collate, step, one after the other; no checkpoints, no figures kept
    plain      the core's loop in this process: batches made ahead in a thread; nothing but figures kept
    ray        `ifmdm train` with one worker: Ray Train, run storage, spool, MLflow (SQLite), system metrics.
               Its rate divided by that of `plain` is what the issue asks for
    ray x N    the same with N workers that share the batch
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from ifmdm_core.training.fit import Progress, StepRecord, fit
from ifmdm_core.training.loop import Ema, LoopState, step_seed
from ifmdm_core.training.task import Validation
from ifmdm_core.training.world import World
from pipelines.training.driver import Launch, drive
from pipelines.training.launch import Preflight, begin, preflight, read_config
from pipelines.training.process import Job
from pipelines.training.progress import TrainingProgress
from pipelines.training.stage import Materials
from pipelines.training.stages import stage_named

CONFIGS = Path(__file__).parents[2] / "configs" / "demo"
STAGES = {"autoencoder": 30, "motion": 140}
"""Steps of a run, by stage."""
WARM_UP = {"autoencoder": 10, "motion": 40}
"""Steps before the clock counts, by stage: a quarter of a minute, in which MLflow's sender still imports MLflow."""


RAY_NICENESS = 15
"""What Ray gives its workers; without it, whatever else the machine does would cost only them."""


@dataclass(frozen=True)
class Mark:
    """Where a training stood."""

    step: int
    elapsed: float
    """Seconds."""
    waiting: float | None = None
    """Share of the time since the last mark that went into waiting for data."""


def timed(marks: Sequence[Mark], warm_up: int) -> dict[str, float]:
    """Steps a second between the first mark after `warm_up` and the last; waiting as the mean by time."""
    kept = [mark for mark in marks if mark.step >= warm_up]
    first, last = kept[0], kept[-1]
    if last.step == first.step:
        raise SystemExit(f"only one mark after {warm_up} steps: ask for more steps")
    result = {"steps_per_s": (last.step - first.step) / (last.elapsed - first.elapsed)}
    spans = [(b.elapsed - a.elapsed, b.waiting) for a, b in pairwise(kept)]
    if all(waiting is not None for _, waiting in spans):
        result["waiting"] = sum(s * (w or 0.0) for s, w in spans) / sum(s for s, _ in spans)
    return {name: round(value, 4) for name, value in result.items()}


class NoKeeper:
    """Keeps nothing."""

    def load(self) -> dict[str, Any] | None:
        return None

    def save(self, step: int, state: dict[str, Any], metrics: dict[str, float]) -> None: ...
    def record(self, records: Sequence[StepRecord]) -> None: ...
    def validated(self, step: int, validation: Validation) -> None: ...
    def finish(self) -> None: ...


class Marking(TrainingProgress):
    """Remembers what it is told."""

    def __init__(self) -> None:
        super().__init__("benchmark", quiet=True)
        self.marks: dict[int, Mark] = {}

    def tell(self, told: dict[str, Any] | None) -> None:
        if told is not None:
            self.marks.setdefault(told["step"], Mark(told["step"], told["elapsed_s"], told["waiting"]))


@dataclass(frozen=True)
class Bench:
    """One stage's cases."""

    stage: str
    dataset: str
    steps: int
    warm_up: int
    extra: Sequence[str]

    def ready(self, runs: str, workers: int) -> Preflight:
        """The configuration of a run without looks at held-out data, with one checkpoint at its end."""
        settings = [
            f"data.dataset={self.dataset}", f"runs={runs}", f"fit.steps={self.steps}", "fit.validate_steps=null",
            f"fit.checkpoint_steps={self.steps}", "fit.log_steps=5", f"workers.count={workers}",
            "workers.threads=1", *self.extra,
        ]  # fmt: skip
        stage = stage_named(self.stage)
        return preflight(stage, read_config(stage, CONFIGS / f"{self.stage}.yaml", settings))

    def alone(self, train: Callable[[Any, Any, Any], list[Mark]]) -> dict[str, float]:
        """Build task and source as a worker would, and train them in this process, at Ray's priority."""
        os.nice(RAY_NICENESS)
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory(prefix="ifmdm-bench-") as folder:
            ready = self.ready(folder, 1)
            start = Path(folder) / "start"
            start.mkdir()
            materials = Materials(ready.config, ready.data, start)
            ready.stage.prepare(materials)
            torch.manual_seed(ready.config.fit.seed)
            task, source = ready.stage.task(materials, leads=True), ready.stage.source(materials)
            return timed(train(task, source, ready.config.fit), self.warm_up)

    def script(self) -> dict[str, float]:
        def train(task: Any, source: Any, settings: Any) -> list[Mark]:
            task.distribute(World(), torch.device("cpu"))
            ema, state, marks = Ema(task.averaged, settings.ema), LoopState(), []
            begun = time.perf_counter()
            for share in source.shares(0, None, World()):
                state.fraction = state.step / settings.steps
                torch.manual_seed(step_seed(settings.seed, state.step))
                task.step(state, task.collate(share))
                ema.update()
                state.step += 1
                marks.append(Mark(state.step, time.perf_counter() - begun))
                if state.step == settings.steps:
                    break
            return marks

        return self.alone(train)

    def plain(self) -> dict[str, float]:
        def train(task: Any, source: Any, settings: Any) -> list[Mark]:
            marks: list[Mark] = []

            def mark(progress: Progress) -> None:
                marks.append(Mark(progress.state.step, progress.state.elapsed, progress.waiting))

            fit(task, source, settings, NoKeeper(), on_progress=mark)
            return marks

        return self.alone(train)

    def ray(self, workers: int) -> dict[str, float]:
        with tempfile.TemporaryDirectory(prefix="ifmdm-bench-", ignore_cleanup_errors=True) as folder:
            ready = self.ready(folder, workers)
            run, progress = begin(ready, "bench"), Marking()
            drive(run, Job(ready.stage, run.uri, 0, ready.config), Launch(), progress)
            return timed([progress.marks[step] for step in sorted(progress.marks)], self.warm_up)

    def run(self, case: str) -> dict[str, float]:
        """`case` in a new process. Raises BrokenProcessPool when that process dies."""
        alone = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        with alone:
            return alone.submit(self.case, case).result()

    def case(self, case: str) -> dict[str, float]:
        """`script`, `plain`, `ray` or `ray x N`, in this process."""
        if case.startswith("ray"):
            return self.ray(int(case.removeprefix("ray").removeprefix(" x ") or 1))
        return self.script() if case == "script" else self.plain()


def summary(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians, their ratios to `plain`, and all runs."""
    medians = {
        case: {name: round(statistics.median(run[name] for run in made), 4) for name in made[0]}
        for case, made in runs.items()
    }
    plain = medians.get("plain", {}).get("steps_per_s")
    ratios = {case: round(m["steps_per_s"] / plain, 3) for case, m in medians.items()} if plain else {}
    return {"median": medians, "of plain": ratios, "all": runs}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.bench_training", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("dataset", help="folder or s3:// prefix with the demo bundle's features")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--stages", nargs="+", choices=tuple(STAGES), default=tuple(STAGES))
    parser.add_argument("--steps", type=int, help="of each run; default: " + str(STAGES))
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="workers of the last case")
    parser.add_argument("--cases", nargs="+", help="only these, e.g. plain ray; default: all")
    parser.add_argument("--set", action="append", default=[], help="a setting of both stages, a.b=c")
    parser.add_argument("--out", type=Path, required=True, help="JSON with every run")
    options = parser.parse_args()
    cases = ["script", "plain", "ray"] + ([f"ray x {options.workers}"] if options.workers > 1 else [])
    made: dict[str, dict[str, list[dict[str, float]]]] = {}
    for number in range(options.runs):
        for stage in options.stages:
            bench = Bench(stage, options.dataset, options.steps or STAGES[stage], WARM_UP[stage], options.set)
            for name in options.cases or cases:
                made.setdefault(stage, {}).setdefault(name, []).append(bench.run(name))
                print(
                    f"run {number + 1} of {options.runs}  {stage} {name}: {made[stage][name][-1]}", flush=True
                )
    result = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, torch {torch.__version__}",
        "runs": options.runs,
        "stages": {stage: summary(runs) for stage, runs in made.items()},
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({stage: {k: v for k, v in summary(runs).items() if k != "all"} for stage, runs in made.items()},
                     indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
