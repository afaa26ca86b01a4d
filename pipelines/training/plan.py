"""What a training would be: printed by `ifmdm train ... --dry-run`, from the very objects that would run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ifmdm_core.training.feed import Feed
from ifmdm_core.training.loop import LoopState
from ifmdm_core.training.task import TrainingTask
from ifmdm_core.training.world import World
from pipelines.commands.common import size_text
from pipelines.training.launch import Preflight
from pipelines.training.stage import Materials, say_nothing

TIMED = 3
"""Steps that are timed, after one that is not."""
FPS = 25


@dataclass(frozen=True)
class Plan:
    """A training before it starts."""

    stage: str
    config: dict[str, Any]
    data: dict[str, Any]
    parameters: dict[str, int]
    epochs: float
    """Times that every clip is met."""
    checkpoint_bytes: int
    checkpoints: int
    """Written in all; `checkpoints.keep_last` and `keep_best` of them stay."""
    step_s: float | None
    """Seconds of one step of one worker on this machine, with its share of the batch."""
    estimate: str

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON-able values."""
        return dict(vars(self))

    def __str__(self) -> str:
        import yaml

        hours = self.data["frames"] / FPS / 3600
        lines = [
            yaml.safe_dump(self.config, sort_keys=False).rstrip(),
            "",
            f"stage       {self.stage}",
            f"parameters  {', '.join(f'{name} {count:,}' for name, count in self.parameters.items())}",
            f"data        {self.data['clips']:,} clips, {self.data['frames']:,} frames ({hours:.1f} h) of "
            f"{self.data['dataset']} at manifest {self.data['manifest']} ({self.data['content']}); "
            f"{self.data['held_out']:,} clips held out",
            f"features    {self._features()}",
            f"steps       {self.config['fit']['steps']:,} of {self.config['data']['batch']} samples: {self.epochs:.2g} "
            "times every clip",
            f"checkpoints {self.checkpoints} of {size_text(self.checkpoint_bytes)}",
            f"estimate    {self.estimate}",
        ]
        return "\n".join(lines)

    def _features(self) -> str:
        named = [f"{kind}/{self.data[kind]}" for kind in ("speech", "motion") if self.data[kind]]
        return ", ".join(named) or "none: pictures only"


def plan(ready: Preflight, say: Callable[[str], None] = say_nothing) -> Plan:
    """Build the task as a worker would, measure its state, and time some steps where this machine can.

    Args:
        say: told what is about to take a while.
    """
    config, data = ready.config, ready.data
    with tempfile.TemporaryDirectory(prefix="ifmdm-plan-") as folder:
        materials = Materials(config, data, Path(folder), ready.s3, say)
        ready.stage.prepare(materials)
        torch.manual_seed(config.fit.seed)
        torch.set_num_threads(config.workers.threads)
        task = ready.stage.task(materials, leads=False)
        say(f"timing {TIMED} steps")
        step_s, estimate = _estimate(ready, task, materials)
        return Plan(
            stage=ready.stage.name,
            config=config.dumped(),
            data=data.model_dump(mode="json"),
            parameters=ready.facts.parameters,
            epochs=config.fit.steps * config.data.batch / data.clips,
            checkpoint_bytes=_state_bytes(task),
            checkpoints=-(-config.fit.steps // config.fit.checkpoint_steps),
            step_s=step_s,
            estimate=estimate,
        )


def _estimate(ready: Preflight, task: TrainingTask, materials: Materials) -> tuple[float | None, str]:
    """Seconds of a worker's step, and what that means for the whole."""
    workers, steps = ready.config.workers, ready.config.fit.steps
    if workers.gpus and not torch.cuda.is_available():
        return None, "not known: the workers have GPUs, and this machine has none to time a step on"
    task.distribute(World(), torch.device("cuda" if workers.gpus else "cpu"))
    state = LoopState()
    times = []
    # The share of the first of so many; alone in its world, so that it waits for nobody.
    with Feed(ready.stage.source(materials).shares(0, None, World(0, workers.most)), task.collate) as feed:
        for _ in range(TIMED + 1):
            _, batch = feed.next()
            began = time.monotonic()
            float(task.step(state, batch)["loss"])
            times.append(time.monotonic() - began)
            state.step += 1
    step = sorted(times[1:])[TIMED // 2]
    text = (
        f"{_duration(step * steps)} if every worker has a {'GPU' if workers.gpus else 'core'} like this machine's, by "
        f"{TIMED} timed steps of {step:.3g} s; without looks at held-out data and the exchange between workers"
    )
    if ready.config.fit.minutes:
        text += f"; ends after {ready.config.fit.minutes:g} minutes at the latest"
    return step, text


def _state_bytes(task: TrainingTask) -> int:
    """Of a checkpoint: weights, their moving average, and two numbers of AdamW for each one that is trained."""
    held = sum(t.numel() * t.element_size() for m in task.modules.values() for t in m.state_dict().values())
    averaged = sum(t.numel() * t.element_size() for t in task.averaged.state_dict().values())
    trained = {
        id(p): 2 * p.numel() * p.element_size()
        for optimizer in task.optimizers.values()
        for group in optimizer.param_groups
        for p in group["params"]
        if p.requires_grad
    }
    return held + averaged + sum(trained.values())


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
