"""What a training loop needs of anything it trains, and how data comes to it.

A step has one global batch of `Share.size` samples, numbered 0..size-1; a process gets some of them. Everything random
about a sample comes from `sample_rng(seed, step, number)`, and every figure is a part of a sum over processes that was
already divided by a count of the whole batch. So the same step is the same whatever the number of processes, but for
the order in which numbers are added.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ifmdm_core.training.loop import LoopState
from ifmdm_core.training.world import World


@dataclass(frozen=True)
class Share:
    """The samples of one step that this process has."""

    step: int
    size: int
    """Samples of the step over all processes."""
    items: Sequence[tuple[int, Any]]
    """(number in the step, what was read), by number."""
    clip_ids: Sequence[str]
    """Where the items come from, for messages."""
    cursor: Mapping[str, int]
    """Given to `BatchSource.shares`, reading goes on behind this step."""


class BatchSource(Protocol):
    """Gives every step's samples in an order that depends on a seed only."""

    def shares(self, step: int, cursor: Mapping[str, int] | None, world: World) -> Iterator[Share]:
        """This process's samples of steps `step`, `step + 1`, ... without end; `cursor` None is the beginning."""
        ...


@dataclass(frozen=True)
class Validation:
    """What a look at held-out data gave."""

    metrics: dict[str, float]
    files: list[Path] = field(default_factory=list)
    """Pictures, videos and tables that were written."""


class TrainingTask(ABC):
    """A network in training: its parts, one step, a look at how it does, its export."""

    title: str
    modules: Mapping[str, nn.Module]
    """What a checkpoint holds; never wrapped."""
    optimizers: Mapping[str, torch.optim.Optimizer]
    averaged: nn.Module
    """The module whose moving average is validated and exported; one of `modules`."""

    @abstractmethod
    def distribute(self, world: World, device: torch.device) -> None:
        """Move to the device and wrap for the processes; called once, before weights of a checkpoint are loaded."""

    @abstractmethod
    def collate(self, share: Share) -> Any:
        """The batch of a share, as tensors on the CPU. Runs ahead in a thread: it must not touch the networks."""

    @abstractmethod
    def step(self, state: LoopState, batch: Any) -> Mapping[str, Tensor]:
        """Forward, backward, update; returns this process's parts of the step's figures, `loss` among them."""

    @abstractmethod
    def validate(self, step: int, folder: Path) -> Validation:
        """Figures and samples on held-out data, with the averaged weights in place; files go into `folder`."""

    @abstractmethod
    def export(self, path: Path, lineage: Mapping[str, str]) -> None:
        """Write the weights as they are now for a bundle: one safetensors file, or a folder for speech."""
