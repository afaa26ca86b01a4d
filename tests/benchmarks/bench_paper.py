"""Step time and memory of both stages as configs/paper trains them, on one GPU, and the days that makes.

    python -m tests.benchmarks.bench_paper --out bench-paper.json

Each stage takes one GPU's share of the configured batch: the bundled photo, swayed, for stage 1, random features for
stage 2 (arithmetic does not ask what they show). Nothing is read from disk, so `waiting` is what augmentation and
landmarks on the CPU cost beyond what hides behind a step. Days are the configuration's steps times the mean step; an
exchange of gradients between GPUs is not in it. The paper took 10 days on four A6000 for stage 1, a week on one A100
for stage 2. Needs `ifmdm[render]` alone; `--configs configs/demo --device cpu` tries it out.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ifmdm_core.autoencoder import AutoencoderConfig
from ifmdm_core.config import read_mapping
from ifmdm_core.motion.config import MotionConfig
from ifmdm_core.training.autoencoder_settings import AutoencoderTaskConfig
from ifmdm_core.training.autoencoder_task import AutoencoderTask, new_autoencoder
from ifmdm_core.training.feed import Feed
from ifmdm_core.training.items import ClipFeatures, FramePair
from ifmdm_core.training.list_source import ListSource
from ifmdm_core.training.loop import Ema, LoopState
from ifmdm_core.training.motion_statistics import fit_motion_statistics
from ifmdm_core.training.motion_task import MotionTask, MotionTaskConfig, new_motion_generator
from ifmdm_core.training.task import TrainingTask
from ifmdm_core.training.world import World
from tests.talking_videos import talking_frames

PAPER = {
    "autoencoder": {"gpus": 4, "days": 10, "kind": "A6000"},
    "motion": {"gpus": 1, "days": 7, "kind": "A100"},
}


def measure(
    task: TrainingTask, source: ListSource, device: torch.device, first: int, steps: int
) -> dict[str, float]:
    """Median seconds of `steps` steps from `first` on, memory at its highest, share of time waiting for batches."""
    state, ema = LoopState(step=first), Ema(task.averaged)
    warm_up = max(2, steps // 5)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    with Feed(source.shares(first, None, World()), task.collate) as feed:
        waited = 0.0
        for number in range(warm_up + steps):
            if number == warm_up:
                waited = feed.waited
            begun = time.perf_counter()
            _, batch = feed.next()
            task.step(state, batch)
            ema.update()
            if device.type == "cuda":
                torch.cuda.synchronize()
            state.step += 1
            if number >= warm_up:
                seconds.append(time.perf_counter() - begun)
        waited = feed.waited - waited
    result = {"step_s": statistics.median(seconds), "mean_step_s": statistics.mean(seconds)}
    result["waiting"] = waited / sum(seconds)
    if device.type == "cuda":
        result["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return {name: round(value, 4) for name, value in result.items()}


def stage1(values: Mapping[str, Any], batch: int, device: torch.device, steps: int) -> dict[str, Any]:
    """Without discriminators and, where configured, with them."""
    named = {
        key: values[key]
        for key in ("train", "losses", "adversary", "augmentation", "optimiser")
        if key in values
    }
    config = AutoencoderTaskConfig(**named)
    shape = AutoencoderConfig(**preset(AutoencoderConfig, values["model"]))
    task = AutoencoderTask(new_autoencoder(shape, 0), config)
    task.distribute(World(), device)
    frames = talking_frames(0, 32, shape.size)
    pairs = [FramePair(f"photo-{k}", None, frames[[k, 31 - k]]) for k in range(16)]
    source = ListSource(pairs, batch)
    made: dict[str, Any] = {"plain": measure(task, source, device, 0, steps)}
    total, early = values["fit"]["steps"], made["plain"]["mean_step_s"]
    seconds = total * early
    if config.adversary is not None:
        start = config.adversary.from_step
        made["adversarial"] = measure(task, source, device, start, steps)
        seconds = start * early + (total - start) * made["adversarial"]["mean_step_s"]
    return {**made, "days": round(seconds / 86400, 3)}


def stage2(values: Mapping[str, Any], batch: int, device: torch.device, steps: int) -> dict[str, Any]:
    """Windows of random features."""
    named = {key: values[key] for key in ("losses", "augmentation", "optimiser") if key in values}
    shape = MotionConfig(**preset(MotionConfig, values["model"]))
    random = np.random.default_rng(0)
    clips = [
        ClipFeatures(
            f"random-{k}", None,
            np.tanh(random.normal(0, 0.5, (250, 20)).cumsum(0) / 8).astype(np.float32),
            random.normal(size=(250, shape.speech_dim)).astype(np.float16),
        )
        for k in range(64)
    ]  # fmt: skip
    lip_map = random.normal(size=(shape.lip_dim, 20)).astype(np.float32)
    statistics_of = ((clip.motion, clip.speech) for clip in clips)
    fitted = fit_motion_statistics(statistics_of, shape, lip_map, np.zeros(shape.lip_dim, np.float32))
    task = MotionTask(new_motion_generator(shape, 0), fitted, MotionTaskConfig(**named))
    task.distribute(World(), device)
    made = measure(task, ListSource(clips, batch), device, 0, steps)
    return {"plain": made, "days": round(values["fit"]["steps"] * made["mean_step_s"] / 86400, 3)}


def preset(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `model` group, the named preset's under its own."""
    own = dict(values)
    name = own.pop("preset", None)
    return {**(kind.preset(name).model_dump() if name else {}), **own}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.bench_paper", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--configs", type=Path, default=Path(__file__).parents[2] / "configs" / "paper")
    parser.add_argument("--stages", nargs="+", choices=tuple(PAPER), default=tuple(PAPER))
    parser.add_argument(
        "--steps", type=int, default=48, help="measured steps of each part; 16 hold one R1 penalty"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no GPU here; --device cpu tries the code out")
    machine = (
        torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    )
    result: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine, "torch": torch.__version__,
        "stages": {},
    }  # fmt: skip
    for stage in options.stages:
        values = read_mapping(options.configs / f"{stage}.yaml")
        count = values.get("workers", {}).get("count", 1)
        gpus = count[1] if isinstance(count, list) else count
        share = max(1, values["data"]["batch"] // gpus)
        run = stage1 if stage == "autoencoder" else stage2
        made = run(values, share, device, options.steps)
        result["stages"][stage] = {
            "gpus": gpus, "batch_per_gpu": share, "steps": values["fit"]["steps"], **made, "paper": PAPER[stage],
        }  # fmt: skip
        print(json.dumps({stage: result["stages"][stage]}), flush=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
