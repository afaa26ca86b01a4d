"""What a Ray Train worker runs."""

from __future__ import annotations

from typing import Any


def work(settings: dict[str, Any]) -> None:
    """The training function of Ray Train; `settings["job"]` is a `Job`."""
    import ray.train.torch

    from ifmdm_core.training.world import World
    from pipelines.training.process import train_process

    place = ray.train.get_context()
    node = f"node-{place.get_node_rank()}" if place.get_local_rank() == 0 else None
    train_process(
        settings["job"], World.current(), ray.train.torch.get_device(), should_stop=_node_goes, node=node
    )


def _node_goes() -> bool:
    """Whether a node of the training is about to be taken away; every worker asks equally often, and all agree."""
    import ray.train

    return ray.train.get_preemption_info() is not None
