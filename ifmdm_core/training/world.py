"""The processes that train one model together: which one this is, and the few things they must agree on."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class World:
    """One process alone by default; `World.current()` inside a torch.distributed group."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> World:
        """The group that this process has joined, or itself alone."""
        from torch import distributed

        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """`module` such that its gradients are averaged over the processes; itself where there is only one."""
        if self.size == 1:
            return module
        from torch.nn.parallel import DistributedDataParallel

        ids = [device] if device.type == "cuda" else None
        # Torch 2.13 has given this setting another name and warns of the old one.
        names = signature(DistributedDataParallel).parameters
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
        options: dict[str, Any] = {"device_ids": ids, buffers: False}
        return DistributedDataParallel(module, **options)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over processes of a tensor of one shape; a new tensor, the same bits everywhere."""
        total = values.clone()
        if self.size > 1:
            from torch import distributed

            distributed.all_reduce(total)
        return total

    def gather(self, value: Any) -> list[Any]:
        """Every process's value (plain data), in order of rank."""
        if self.size == 1:
            return [value]
        from torch import distributed

        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def agree(self, value: Any) -> Any:
        """The leader's value (plain data), for all."""
        if self.size == 1:
            return value
        from torch import distributed

        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]
