"""The plain training loop that every training here shares: wall-clock budget, checkpoints, exact resume, EMA.

    loop = TrainingLoop("work/motion", modules={"model": model}, optimizers={"adam": adam}, ema=Ema(model),
                        minutes=12, seed=0)
    loop.run(step)          # step(state) -> {"loss": tensor, ...}: forward, backward, optimiser step

`step` gets a `LoopState`: the step number and the fraction of the budget that is used (for schedules). Randomness of
sample `i` must come from `sample_rng(seed, step, i)`; torch's own generator (dropout) is re-seeded from (seed, step)
before each step. So a resumed run repeats, bit for bit on one CPU thread count, what an unbroken one would have done,
as long as schedules depend on the step (`max_steps`) and not on the clock.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ifmdm_core.errors import BadInput, IfmdmError
from ifmdm_core.training.checkpoint import checkpoints, load_state, save_state


class Diverged(IfmdmError):
    """The loss is not finite any more; the last checkpoint is from before that."""


def sample_rng(seed: int, step: int, index: int) -> np.random.Generator:
    """The generator of everything random about one sample; never depends on ranks, workers or batch size."""
    return np.random.default_rng((seed, step, index))


def step_seed(seed: int, step: int) -> int:
    """The seed of torch's own generator in a step."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1)[0])


def warmup_cosine(state: LoopState, warmup_steps: int = 200, floor: float = 0.02) -> float:
    """Learning-rate factor in (0, 1]: linear warm-up by steps, then cosine down to `floor` by budget fraction."""
    warm = min(1.0, (state.step + 1) / max(1, warmup_steps))
    return warm * (floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, state.fraction))))


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of all groups; a group may scale it by its own entry `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


class Ema:
    """Exponential moving average of a module's parameters, decay min(cap, (1 + n) / (10 + n)); buffers are copied."""

    def __init__(self, module: nn.Module, cap: float = 0.9999) -> None:
        self.module = module
        self.cap = cap
        self.updates = 0
        self.shadow = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Takes the module's present weights in."""
        decay = min(self.cap, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        floating: tuple[list[Tensor], list[Tensor]] = ([], [])
        for name, value in self.module.state_dict().items():
            if value.is_floating_point():
                floating[0].append(self.shadow[name])
                floating[1].append(value.detach())
            else:
                self.shadow[name].copy_(value)
        torch._foreach_lerp_(floating[0], floating[1], 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[nn.Module]:
        """The module with the averaged weights in it, for evaluation and export; the trained ones come back after."""
        kept = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        self.module.load_state_dict(self.shadow)
        try:
            yield self.module
        finally:
            self.module.load_state_dict(kept)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "shadow": self.shadow}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.updates = int(state["updates"])
        for name, value in state["shadow"].items():
            self.shadow[name].copy_(value)


@dataclass
class LoopState:
    """Where a training stands."""

    step: int = 0
    """Steps done."""
    elapsed: float = 0.0
    """Seconds of training so far, resumed parts included."""
    fraction: float = 0.0
    """Used part of the budget in [0, 1], by clock or by steps, whichever is further."""


@dataclass
class TrainingLoop:
    """Runs a step function until the budget is spent, and can go on from where an earlier call stopped."""

    folder: str | Path
    """Work folder: checkpoints `step-*` and `log.jsonl`."""
    modules: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]
    ema: Ema | None = None
    minutes: float | None = None
    """Wall-clock budget of the whole training, resumed parts included."""
    max_steps: int | None = None
    call_minutes: float | None = None
    """Budget of this call alone (a machine lent for some minutes); the next call resumes."""
    checkpoint_minutes: float = 2.0
    log_steps: int = 50
    keep: int = 2
    """Checkpoints kept."""
    seed: int = 0
    resume: bool = True
    """Go on from the newest checkpoint in `folder`; False starts anew and removes the old ones."""
    title: str = "training"

    def __post_init__(self) -> None:
        if self.minutes is None and self.max_steps is None:
            raise BadInput("a training needs a budget", fix="give minutes or max_steps")
        self.folder = Path(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state = LoopState()
        found = checkpoints(self.folder)
        if self.resume and found:
            self._load(load_state(found[-1]))
        elif found:
            for old in found:
                shutil.rmtree(old)
            (self.folder / "log.jsonl").unlink(missing_ok=True)

    def run(
        self,
        step: Callable[[LoopState], Mapping[str, Tensor | float]],
        on_log: Callable[[LoopState, dict[str, float]], None] | None = None,
        on_checkpoint: Callable[[LoopState], None] | None = None,
    ) -> LoopState:
        """Calls `step` until the budget ends; logs means over `log_steps`; checkpoints now and then and at the end.

        `step` returns at least "loss". Raises Diverged when a logged value is not finite (no checkpoint is
        written then). Ctrl-C writes a checkpoint and ends the loop.
        """
        started, base, saved = time.monotonic(), self.state.elapsed, time.monotonic()
        sums: dict[str, Tensor | float] = {}
        count, first = 0, self.state.step
        with _progress(self.title) as show:
            try:
                while not self._spent(time.monotonic() - started):
                    torch.manual_seed(step_seed(self.seed, self.state.step))
                    for name, value in step(self.state).items():
                        item = value.detach() if isinstance(value, Tensor) else value
                        sums[name] = sums[name] + item if name in sums else item
                    if self.ema is not None:
                        self.ema.update()
                    count += 1
                    self.state.step += 1
                    self._clock(base + time.monotonic() - started)
                    due = time.monotonic() - saved > 60 * self.checkpoint_minutes
                    if count >= self.log_steps or due or self._spent(time.monotonic() - started):
                        means = self._means(sums, count)
                        rate = (self.state.step - first) / max(1e-9, time.monotonic() - started)
                        self._log({**means, "steps_per_s": rate})
                        show(self.state, means, rate)
                        if on_log is not None:
                            on_log(self.state, means)
                        sums, count = {}, 0
                    if due:
                        self.save()
                        saved = time.monotonic()
                        if on_checkpoint is not None:
                            on_checkpoint(self.state)
            except KeyboardInterrupt:
                sys.stderr.write(f"{self.title}: stopped at step {self.state.step}\n")
        if self.state.step > first:
            self.save()
        return self.state

    def save(self) -> Path:
        """Writes a checkpoint of everything that the next step depends on."""
        path = Path(self.folder) / f"step-{self.state.step:08d}"
        save_state(
            path,
            {
                "step": self.state.step,
                "elapsed": self.state.elapsed,
                "seed": self.seed,
                "modules": {name: module.state_dict() for name, module in self.modules.items()},
                "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
                "ema": None if self.ema is None else self.ema.state_dict(),
            },
        )
        for old in checkpoints(self.folder)[: -self.keep]:
            shutil.rmtree(old)
        return path

    def _load(self, state: dict[str, Any]) -> None:
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        if self.ema is not None and state["ema"] is not None:
            self.ema.load_state_dict(state["ema"])
        self.state.step = state["step"]
        self._clock(state["elapsed"])

    def _clock(self, elapsed: float) -> None:
        by_clock = elapsed / (60 * self.minutes) if self.minutes else 0.0
        by_steps = self.state.step / self.max_steps if self.max_steps else 0.0
        self.state.elapsed = elapsed
        self.state.fraction = min(1.0, max(by_clock, by_steps))

    def _spent(self, this_call: float) -> bool:
        return self.state.fraction >= 1.0 or (
            self.call_minutes is not None and this_call >= 60 * self.call_minutes
        )

    def _means(self, sums: Mapping[str, Tensor | float], count: int) -> dict[str, float]:
        means = {name: float(total) / count for name, total in sums.items()}
        for name, value in means.items():
            if not math.isfinite(value):
                raise Diverged(
                    f"{self.title}: {name} is {value} at step {self.state.step}",
                    fix="lower the learning rate; the run resumes from its last checkpoint",
                )
        return means

    def _log(self, values: dict[str, float]) -> None:
        line = {"step": self.state.step, "elapsed": round(self.state.elapsed, 1), **values}
        with open(Path(self.folder) / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(
                json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in line.items()}) + "\n"
            )


@contextmanager
def _progress(title: str) -> Iterator[Callable[[LoopState, dict[str, float], float], None]]:
    """A bar on a terminal; one line per log elsewhere (log files of unattended runs)."""

    def text(state: LoopState, means: dict[str, float], rate: float) -> str:
        shown = " ".join(f"{name} {value:.4f}" for name, value in means.items())
        return f"{title} step {state.step} {100 * state.fraction:.0f}% {rate:.2f}/s {shown}"

    if not sys.stderr.isatty():
        yield lambda state, means, rate: print(text(state, means, rate), file=sys.stderr, flush=True)
        return
    from tqdm import tqdm

    with tqdm(total=1000, bar_format="{desc} |{bar}| {elapsed}<{remaining}") as bar:

        def show(state: LoopState, means: dict[str, float], rate: float) -> None:
            bar.n = int(1000 * state.fraction)
            bar.set_description_str(text(state, means, rate))

        yield show
