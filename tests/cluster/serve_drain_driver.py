"""Serves a bundle on a cluster and drains the node of its decoder while a video is rendered; says what happened."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from ifmdm_core.controls import RenderControls
from serve.calls import STAGES, Calls, ServeStages
from serve.config import DecoderConfig, ServeConfig, StageConfig
from serve.flow import FlowRequest
from serve.rollout import start
from tests.crash.ray_nodes import RAY
from tests.serve.rendering import WatchedStages, identity, motion_of, rendered, sound


def nodes_of(application: str, stage: str) -> list[str]:
    """The nodes of a stage's running replicas."""
    from ray.serve.context import _get_global_client

    details = _get_global_client().get_serve_details()["applications"][application]["deployments"][stage]
    return [replica["node_id"] for replica in details["replicas"] if replica["state"] == "RUNNING"]


async def main(address: str, bundle: str, root: str, portrait: Path) -> dict[str, Any]:
    config = ServeConfig(
        root=root, model=bundle, speech=StageConfig(cpus=0.1), motion=StageConfig(cpus=0.1),
        decoder=DecoderConfig(cpus=0.1, chunk=5),
    )  # fmt: skip
    route = await start(config, bundle)
    application, lost = route.application, list[str]()
    calls = await asyncio.to_thread(Calls, application, lambda stage, error: lost.append(stage))
    stages = WatchedStages(ServeStages(calls, route.facts))
    request = FlowRequest(identity(root, portrait), sound(24), RenderControls(steps=4))
    quiet = await rendered(stages, request)
    (drained,) = nodes_of(application, "decoder")

    async def leave(number: int) -> None:
        if number == 2:
            command = [*RAY, "drain-node", "--address", address, "--node-id", drained, "--reason",
                       "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "test", "--deadline-remaining-seconds",
                       "600"]  # fmt: skip
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        # The reader lingers until the replicas have moved, so that the video spans the move.
        while number == 10 and not all(set(nodes_of(application, stage)) - {drained} for stage in STAGES):
            await asyncio.sleep(0.5)

    moved = await rendered(stages, request, leave)
    return {
        "frames": sum(chunk.frames for chunk in moved),
        "difference": float(abs(motion_of(moved) - motion_of(quiet)).max()),
        "lost": lost,
        "drained": drained,
        "nodes": {stage: nodes_of(application, stage) for stage in STAGES},
    }


if __name__ == "__main__":
    import ray

    address, bundle, root, portrait = sys.argv[1:]
    ray.init(address, log_to_driver=False, logging_level="ERROR", namespace="ifmdm")
    print(json.dumps(asyncio.run(main(address, bundle, root, Path(portrait)))))
