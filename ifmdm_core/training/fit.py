"""Trains a task by steps, alone or as one of several processes: the loop behind `ifmdm train`.

    fit(task, source, FitSettings(steps=1000), FolderKeeper("work/motion"))

Where state, figures and samples go is the keeper's business (a folder here, a bucket and MLflow in `pipelines`). Only
the process that leads writes; all of them read the same checkpoint. Resuming repeats, bit for bit on one kind of CPU
with float32 and at most two processes, what an unbroken run would have done.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ifmdm_core.errors import Conflict
from ifmdm_core.training.feed import Feed
from ifmdm_core.training.loop import Diverged, Ema, LoopState, step_seed
from ifmdm_core.training.task import BatchSource, TrainingTask, Validation
from ifmdm_core.training.world import World


class FitSettings(BaseModel):
    """How long, and how often what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(gt=0, description="optimiser steps in all")
    minutes: float | None = Field(
        None,
        gt=0,
        description="wall-clock budget in minutes, resumed parts included; ends a run before its steps",
    )
    checkpoint_steps: int = Field(500, gt=0, description="steps between checkpoints")
    validate_steps: int | None = Field(
        None, gt=0, description="steps between looks at held-out data; null: none"
    )
    log_steps: int = Field(10, gt=0, description="steps whose figures are fetched from the device together")
    ema: float = Field(0.999, ge=0, lt=1, description="largest decay of the moving average of weights")
    seed: int = Field(0, ge=0, description="of everything random")
    divergence: float = Field(
        20.0, gt=1, description="the run stops when its mean loss exceeds the lowest so far this many times"
    )


@dataclass(frozen=True)
class StepRecord:
    """Figures of one step of the whole batch."""

    step: int
    """Steps done, from 1."""
    time: float
    """Seconds since the epoch at which the step ended."""
    values: dict[str, float]


@dataclass(frozen=True)
class Progress:
    """How it goes; given now and then."""

    state: LoopState
    values: dict[str, float]
    """Means over the last steps."""
    steps_per_s: float
    waiting: float
    """Share of the time that went into waiting for data, in [0, 1]."""


class Keeper(Protocol):
    """Keeps what a training makes. `load` is called by every process, the rest by the one that leads."""

    def load(self) -> dict[str, Any] | None:
        """The newest whole checkpoint's state, on the CPU; None at the beginning."""
        ...

    def save(self, step: int, state: dict[str, Any], metrics: dict[str, float]) -> None:
        """Keep a checkpoint; may return before it is durable, but must have copied what it needs.

        `metrics` are the validation figures of this very step, empty when there were none.
        """
        ...

    def record(self, records: Sequence[StepRecord]) -> None:
        """Keep figures of steps; they come in order, and before the checkpoint that covers them."""
        ...

    def validated(self, step: int, validation: Validation) -> None:
        """Keep figures and files of a look at held-out data; the files vanish afterwards."""
        ...

    def finish(self) -> None:
        """Wait until everything is durable."""
        ...


_Pending = tuple[int, float, dict[str, Tensor], Sequence[str]]
"""Step, time, figures still on the device, clips."""


def fit(
    task: TrainingTask,
    source: BatchSource,
    settings: FitSettings,
    keeper: Keeper,
    *,
    world: World | None = None,
    device: torch.device | str = "cpu",
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> LoopState:
    """Train until steps or minutes are used up, or `should_stop` says so on any process (looked at every log_steps).

    Returns where it stands. The task has its trained weights in it, and a checkpoint covers them.

    Raises:
        Diverged: a figure is not finite, or the loss has run away; names the clips of that step. No checkpoint is
            written then.
        Conflict: the checkpoint is of other networks.
    """
    world = world or World.current()
    device = torch.device(device)
    task.distribute(world, device)
    ema = Ema(task.averaged, settings.ema)
    state, cursor, lowest = LoopState(), None, math.inf
    saved = keeper.load()
    if saved is not None:
        cursor, lowest = saved["cursor"], saved["lowest"]
        _restore(task, ema, state, saved)
    base, started, first, flushed = state.elapsed, time.monotonic(), state.step, time.monotonic()
    kept_step, waited = state.step, 0.0
    pending: list[_Pending] = []
    state.fraction = _fraction(state, settings)
    stopping = state.fraction >= 1.0
    shares = source.shares(state.step, cursor, world)
    with Feed(shares, task.collate) if not stopping else nullcontext() as feed:
        while not stopping:
            assert feed is not None
            share, batch = feed.next()
            assert share.step == state.step
            torch.manual_seed(step_seed(settings.seed, state.step))
            values = task.step(state, batch)
            ema.update()
            cursor = share.cursor
            state.step += 1
            state.fraction = _fraction(state, settings)
            pending.append((state.step, time.time(), dict(values), share.clip_ids))
            last = state.step >= settings.steps
            checkpoint = last or state.step % settings.checkpoint_steps == 0
            look = settings.validate_steps and (last or state.step % settings.validate_steps == 0)
            if not (checkpoint or look or state.step % settings.log_steps == 0):
                continue
            records = _fetch(pending, world, task.title)
            pending.clear()
            state.elapsed = world.agree(base + time.monotonic() - started)
            lowest = _check_divergence(records, lowest, settings.divergence, task.title, state.step - first)
            if world.leads:
                keeper.record(records)
                now = time.monotonic()
                if on_progress is not None:
                    means = {k: sum(r.values[k] for r in records) / len(records) for k in records[-1].values}
                    spent = max(1e-9, now - flushed)
                    on_progress(Progress(state, means, len(records) / spent, (feed.waited - waited) / spent))
                flushed, waited = now, feed.waited
            state.fraction = _fraction(state, settings)
            stopping = last or state.fraction >= 1.0 or any(world.gather(bool(should_stop())))
            metrics: dict[str, float] = {}
            if look and world.leads:
                with ema.applied(), tempfile.TemporaryDirectory(prefix="ifmdm-look-") as folder:
                    validation = task.validate(state.step, Path(folder))
                    keeper.validated(state.step, validation)
                    metrics = validation.metrics
            if (checkpoint or stopping) and state.step > kept_step:
                kept_step = state.step
                if world.leads:
                    keeper.save(state.step, _state(task, ema, state, settings, cursor, lowest), metrics)
    if world.leads:
        keeper.finish()
    return state


def averaged_weights(task: TrainingTask, saved: dict[str, Any]) -> None:
    """Put the moving average of a checkpoint into the task, to export or to look at it."""
    task.averaged.load_state_dict(saved["ema"]["shadow"])


def _state(
    task: TrainingTask, ema: Ema, state: LoopState, settings: FitSettings, cursor: Any, lowest: float
) -> dict[str, Any]:
    return {
        "step": state.step,
        "elapsed": state.elapsed,
        "seed": settings.seed,
        "cursor": dict(cursor),
        "lowest": lowest,
        "modules": {name: module.state_dict() for name, module in task.modules.items()},
        "optimizers": {name: optimizer.state_dict() for name, optimizer in task.optimizers.items()},
        "ema": ema.state_dict(),
    }


def _restore(task: TrainingTask, ema: Ema, state: LoopState, saved: dict[str, Any]) -> None:
    try:
        for name, module in task.modules.items():
            module.load_state_dict(saved["modules"][name])
        for name, optimizer in task.optimizers.items():
            optimizer.load_state_dict(saved["optimizers"][name])
        ema.load_state_dict(saved["ema"])
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise Conflict(
            f"the checkpoint of step {saved['step']} does not fit this {task.title}: {reason}",
            fix="resume with the configuration that it was made with, or start a new run from it",
        ) from None
    state.step, state.elapsed = saved["step"], saved["elapsed"]


def _fraction(state: LoopState, settings: FitSettings) -> float:
    """Schedules follow steps alone, so that a resumed run repeats them; the clock only ends a run."""
    by_clock = state.elapsed / (60 * settings.minutes) if settings.minutes else 0.0
    return 1.0 if by_clock >= 1.0 else min(1.0, state.step / settings.steps)


def _fetch(steps: Sequence[_Pending], world: World, title: str) -> list[StepRecord]:
    """Figures of the pending steps, summed over processes, in one transfer."""
    names = sorted(steps[-1][2])
    table = torch.stack(
        [torch.stack([values[n].detach().float().reshape(()) for n in names]) for *_, values, _ in steps]
    )
    own = table.cpu()
    total = world.sum(table).cpu()
    records = []
    for (step, when, _, clips), row, mine in zip(steps, total, own, strict=True):
        bad = (~torch.isfinite(row)).nonzero()[:, 0].tolist()
        if bad:
            # The gradients' norm is the same everywhere; any other figure tells which process met the fault.
            k = min(bad, key=lambda column: (names[column] == "grad_norm", column))
            culprits = world.gather([] if torch.isfinite(mine[k]) else list(clips))
            listed, name = sorted({clip for part in culprits for clip in part}), names[k]
            raise Diverged(
                f"{title}: {name} is {float(row[k])} at step {step}, on clips {', '.join(listed)}",
                fix="look at these clips (ifmdm data sample), or lower the learning rate; "
                "the run resumes from its last checkpoint",
            )
        records.append(StepRecord(step, when, {n: float(v) for n, v in zip(names, row, strict=True)}))
    return records


def _check_divergence(
    records: Sequence[StepRecord], lowest: float, limit: float, title: str, since_start: int
) -> float:
    """The lowest mean loss of any log interval so far. Raises Diverged when this one exceeds it `limit` times."""
    mean = sum(record.values["loss"] for record in records) / len(records)
    if lowest > 0 and mean > limit * lowest and since_start > len(records):
        raise Diverged(
            f"{title}: the loss has grown to {mean:.4g} at step {records[-1].step}, it was {lowest:.4g}",
            fix="lower the learning rate, or raise `divergence`; the run resumes from its last checkpoint",
        )
    return min(lowest, mean)
