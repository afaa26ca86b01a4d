"""How weights are updated: the settings that every task shares, and what they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ifmdm_core.errors import BadInput
from ifmdm_core.training.loop import LoopState, warmup_cosine
from ifmdm_core.training.world import World

T = TypeVar("T")
Precision = Literal["fp32", "bf16"]


class OptimiserConfig(BaseModel):
    """AdamW with linear warm-up and a cosine down to 2 % at the last step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lr: float = Field(1e-3, gt=0, description="highest learning rate")
    warmup: int = Field(100, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.02, ge=0, description="of matrices and kernels; vectors have none")
    betas: tuple[float, float] = Field((0.9, 0.98), description="decays of AdamW's two averages, in [0, 1)")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of all gradients together")
    accumulate: int = Field(
        1, ge=1, description="parts that a process's share of a batch is computed in, to fit into memory"
    )
    precision: Precision = Field("fp32", description="of the networks' arithmetic: fp32 or bf16")

    def adamw(self, parameters: Iterable[nn.Parameter]) -> torch.optim.AdamW:
        """The optimiser of some parameters."""
        found = list(parameters)
        groups = [
            {"params": [p for p in found if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in found if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas)

    def rate(self, state: LoopState) -> float:
        """The learning rate of a step."""
        return self.lr * warmup_cosine(state, self.warmup)


def in_parts(items: Sequence[T], parts: int) -> list[Sequence[T]]:
    """`items` in that many runs of nearly equal length.

    Raises BadInput when there are fewer items than parts.
    """
    if len(items) < parts:
        raise BadInput(
            f"a process has {len(items)} samples of a step, accumulate asks for {parts} parts",
            fix="lower accumulate, raise the batch size, or train on fewer workers",
        )
    ends = [round(len(items) * k / parts) for k in range(parts + 1)]
    return [items[a:b] for a, b in pairwise(ends)]


def optimise(
    objective: nn.Module,
    parts: Sequence[Any],
    optimizer: torch.optim.Optimizer,
    config: OptimiserConfig,
    world: World,
    device: torch.device,
) -> dict[str, Tensor]:
    """One update from a batch in parts (gradient accumulation); returns the summed figures.

    Args:
        objective: `World.wrap`ped module; `objective(part)` gives figures, each already a part of the whole step's.
            Every process must have the same number of parts, at least one.
    """
    optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    for number, part in enumerate(parts):
        waits = number + 1 < len(parts) and world.size > 1
        with objective.no_sync() if waits else nullcontext():  # type: ignore[operator]
            with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                values = objective(part)
            # The wrapper averages gradients over processes, but the parts of a sum want to be added.
            (values["loss"] * world.size).backward()
        for name, value in values.items():
            sums[name] = sums[name] + value.detach() if name in sums else value.detach()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    sums["grad_norm"] = torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm).detach() / world.size
    optimizer.step()
    return sums
