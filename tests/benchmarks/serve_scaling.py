"""Each stage scales on its own: which load adds replicas where, how fast, and what a start from zero costs.

    python -m tests.benchmarks.serve_scaling -o scaling.json [--model demo] [--seconds 60] [--clients 6]

Two loads on stages that have one replica at rest and up to three: many denoising steps of short speech (the sampler's
work), and few steps of long speech (the decoder's). Replicas are counted every second, through each load and until
all stages are back at their floor. Then the floor is 0, and the first chunk is timed cold and warm. On few cores
more replicas are not faster; what is shown is that they come and go where the load is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from ifmdm_core.controls import RenderControls
from ifmdm_core.media.audio import Audio
from serve.config import DecoderConfig, Scaling, ServeConfig, StageConfig
from serve.flow import FlowRequest, render
from serve.messages import IdentityRef, Stages
from serve.rollout import start
from serve.routes import Routes
from tests.serve.rendering import identity, sound

STAGES = ("speech", "motion", "decoder")
SAMPLE = Path(__file__).parents[2] / "ifmdm_core" / "assets" / "samples" / "astronaut.jpg"
REST_S = 300.0
"""Longest wait for the floor."""


def config(root: str, model: str, least: int, rest_s: float) -> ServeConfig:
    """Small replicas that come within seconds, and leave after `rest_s`."""
    scaling = Scaling(
        least=least,
        most=3,
        target=2,
        upscale_delay_s=2,
        downscale_delay_s=rest_s,
        look_back_s=3,
        interval_s=1,
    )
    twice = scaling.model_copy(update={"target": 4})  # a render has two chunks under way
    return ServeConfig(
        root=root,
        model=model,
        speech=StageConfig(cpus=0.01, scaling=scaling),
        motion=StageConfig(cpus=0.01, scaling=scaling, batch=2),
        decoder=DecoderConfig(cpus=0.01, scaling=twice, batch=1),
    )


def replicas(application: str, *states: str) -> dict[str, int]:
    """Replicas of each stage that are in one of these states."""
    from ray import serve

    stages = serve.status().applications[application].deployments
    return {name: sum(stages[name].replica_states.get(s, 0) for s in states) for name in STAGES}


def _say(what: str) -> None:
    print(what, flush=True)


class Timeline:
    """Replicas of each stage over time: those that start or run, and those that run."""

    def __init__(self, application: str) -> None:
        self.application = application
        self.began = time.monotonic()
        self.rows: list[dict[str, Any]] = []
        self.phase = ""

    async def watch(self) -> None:
        """Counts every second until cancelled."""
        while True:
            row = await asyncio.to_thread(replicas, self.application, "STARTING", "RUNNING")
            ready = await asyncio.to_thread(replicas, self.application, "RUNNING")
            seconds = round(time.monotonic() - self.began, 1)
            self.rows.append({"s": seconds, "phase": self.phase, **row, "ready": ready})
            shown = "  ".join(f"{name} {row[name]} ({ready[name]} ready)" for name in STAGES)
            print(f"{self.rows[-1]['s']:7.1f} s  {self.phase:18} {shown}", flush=True)
            await asyncio.sleep(1)

    async def floor(self, least: int) -> float:
        """Seconds until every stage has `least` replicas again."""
        began = time.monotonic()
        states = ("STARTING", "RUNNING", "STOPPING")
        while set((await asyncio.to_thread(replicas, self.application, *states)).values()) != {least}:
            if time.monotonic() - began > REST_S:
                raise TimeoutError(f"not back at {least} after {REST_S:.0f} s: {self.rows[-1]}")
            await asyncio.sleep(0.5)
        return round(time.monotonic() - began, 1)

    def most(self, phase: str) -> dict[str, int]:
        """The most replicas of each stage in a phase, starting ones included."""
        rows = [row for row in self.rows if row["phase"] == phase]
        return {name: max(row[name] for row in rows) for name in STAGES}


async def load(stages: Stages, request: FlowRequest, clients: int, seconds: float) -> int:
    """That many clients render one video after the other for a while, then hang up; the chunks they got."""
    chunks = 0

    async def client() -> None:
        nonlocal chunks
        while True:
            async for _ in render(stages, request):
                chunks += 1

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client()) for _ in range(clients)]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
    return chunks


async def first_chunk(stages: Stages, request: FlowRequest) -> float:
    """Seconds until the first chunk."""
    began = time.monotonic()
    chunks = render(stages, request)
    await anext(chunks)
    await chunks.aclose()
    return round(time.monotonic() - began, 2)


async def loads(root: str, model: str, clients: int, seconds: float) -> dict[str, Any]:
    """Both loads, each followed by rest."""
    route = await start(config(root, model, 1, 10), model, say=_say)
    ref = await asyncio.to_thread(identity, root, SAMPLE, route.facts.size)
    cases: dict[str, tuple[str, Audio, RenderControls]] = {
        "steps=200": ("motion", sound(4), RenderControls(steps=200)),
        "steps=2, long": ("decoder", sound(120), RenderControls(steps=2)),
    }
    line, report = Timeline(route.application), {}
    watching = asyncio.create_task(line.watch())
    async with Routes(root) as routes, routes.lease() as stages:
        for phase, (meant, audio, controls) in cases.items():
            line.phase = phase
            chunks = await load(stages, FlowRequest(ref, audio, controls), clients, seconds)
            line.phase = f"rest after {phase}"
            back = await line.floor(1)
            most = line.most(phase)
            report[phase] = {
                "stage": meant,
                "most_replicas": most,
                "only_that_stage": most[meant] > 1 and all(most[n] == 1 for n in STAGES if n != meant),
                "chunks": chunks,
                "back_at_floor_s": back,
            }
    watching.cancel()
    return {"loads": report, "timeline": line.rows}


async def cold(root: str, model: str, times: int) -> dict[str, Any]:
    """The first chunk from zero replicas, and with all of them warm."""
    # Stages start one after the other as a render reaches them: none may leave before the last is there.
    route = await start(config(root, model, 0, 60), model, say=_say)
    ref: IdentityRef = await asyncio.to_thread(identity, root, SAMPLE, route.facts.size)
    request = FlowRequest(ref, sound(2), RenderControls(steps=2))
    line, colds, warms = Timeline(route.application), [], []
    async with Routes(root) as routes, routes.lease() as stages:
        for _ in range(times):
            await line.floor(0)
            colds.append(await first_chunk(stages, request))
            warms.append(await first_chunk(stages, request))
            print(f"first chunk from zero {colds[-1]} s, warm {warms[-1]} s", flush=True)
    return {"cold_s": colds, "warm_s": warms, "median_cold_s": statistics.median(colds)}


def main() -> None:
    """See the module."""
    from ray import serve

    from pipelines.run.cluster import connect

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("scaling.json"))
    parser.add_argument("--model", default="demo")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--colds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, connect(cpus=2) as cluster:
        report = {"cpus": cluster.cpus, "model": given.model, "clients": given.clients}
        report |= asyncio.run(loads(f"{folder}/a", given.model, given.clients, given.seconds))
        serve.shutdown()
        report["from_zero"] = asyncio.run(cold(f"{folder}/b", given.model, given.colds))
        serve.shutdown()
    given.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({name: report[name] for name in ("loads", "from_zero")}, indent=1))


if __name__ == "__main__":
    main()
