"""Trains stage 2 (paper 3.3) on an extracted motion set; resumes by itself.

    python -m ifmdm_core.training.motion --work WORK --minutes 12

`WORK/data` is the motion set (`motion_extract` makes it), `WORK/run` holds checkpoints and log, and
`WORK/motion.safetensors` is the result: averaged weights, config and lineage, ready for a bundle.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ifmdm_core.motion.config import MotionConfig
from ifmdm_core.motion.diffusion import alphas_cumprod
from ifmdm_core.motion.transformer import MotionGenerator
from ifmdm_core.training.loop import Ema, LoopState, TrainingLoop, set_lr, warmup_cosine
from ifmdm_core.training.motion_batch import WindowDrawer
from ifmdm_core.training.motion_check import lip_check, report
from ifmdm_core.training.motion_data import MotionSet, fit_statistics, lip_map_quality
from ifmdm_core.training.motion_loss import MotionLossWeights, motion_loss
from ifmdm_core.training.motion_windows import Augmentation
from ifmdm_core.weights import load_network, read_weights, save_weights


class MotionTraining:
    """The model, optimiser and data of one run; `step` is what the loop calls."""

    def __init__(
        self,
        data: MotionSet,
        config: MotionConfig,
        *,
        batch: int = 32,
        lr: float = 1e-3,
        seed: int = 0,
        device: str = "cpu",
        bf16: bool = False,
        augmentation: Augmentation | None = None,
        weights: MotionLossWeights | None = None,
        start: Path | None = None,
    ) -> None:
        """`start`: weights of an earlier training with the same configuration to go on from."""
        torch.manual_seed(seed)
        self.model = MotionGenerator(config)
        if start is not None:
            self.model.load_state_dict(read_weights(start)[0], strict=False)  # statistics are made anew
        self.scales = fit_statistics(self.model, data).scales
        self.drawer = WindowDrawer(data, self.model, seed, augmentation)
        self.model.to(device).train()
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=device != "cpu")
        self.weights = weights or MotionLossWeights()
        self.alphas = alphas_cumprod(config).to(device)
        self.batch, self.lr, self.device, self.bf16 = batch, lr, device, bf16

    def step(self, state: LoopState) -> Mapping[str, Tensor]:
        """One optimiser step on the batch of `state.step`."""
        set_lr(self.optimizer, self.lr * warmup_cosine(state, 100))
        batch = self.drawer.draw(state.step, self.batch).to(self.device)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.bf16):
            values = motion_loss(self.model, batch, self.alphas, self.scales, self.weights)
        self.optimizer.zero_grad()
        values["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return values


def train_motion(
    work: str | Path,
    config: MotionConfig,
    *,
    minutes: float | None = None,
    max_steps: int | None = None,
    call_minutes: float | None = None,
    ema_cap: float = 0.999,
    **options: object,
) -> Path:
    """Trains on `work/data`, in or out of one call, and writes `work/motion.safetensors`; returns its path.

    `options` are those of `MotionTraining`. Raises NotFound when there is no motion set.
    """
    work = Path(work)
    data = MotionSet.load(work / "data")
    training = MotionTraining(data, config, **options)  # type: ignore[arg-type]
    ema = Ema(training.model, ema_cap)
    loop = TrainingLoop(
        work / "run",
        {"model": training.model},
        {"adam": training.optimizer},
        ema,
        minutes=minutes,
        max_steps=max_steps,
        call_minutes=call_minutes,
        seed=int(options.get("seed", 0)),  # type: ignore[call-overload]
        title="motion",
    )
    state = loop.run(training.step)
    target = work / "motion.safetensors"
    with ema.applied() as model:
        save_weights(target, model, config, {**data.lineage, "motion_steps": str(state.step)})
    return target


def main(arguments: list[str] | None = None) -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m ifmdm_core.training.motion", description=__doc__)
    parser.add_argument(
        "--work", required=True, type=Path, help="folder with data/; run/ and the result go there"
    )
    parser.add_argument("--minutes", type=float, default=12.0, help="wall-clock budget of the whole training")
    parser.add_argument("--call-minutes", type=float, help="budget of this call; the next one resumes")
    parser.add_argument("--preset", choices=["demo", "paper"], default="demo")
    parser.add_argument("--start", type=Path, help="motion.safetensors of an earlier training to begin from")
    parser.add_argument("--batch", type=int, default=32, help="windows per step")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--bf16", action="store_true", help="autocast the network to bfloat16")
    parser.add_argument("--threads", type=int, help="CPU threads")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    data = MotionSet.load(options.work / "data")
    print(
        f"{len(data.motion)} frames in {len(data.clips)} clips; held-out lip map R2 {lip_map_quality(data)}"
    )
    config = MotionConfig.preset(options.preset, data.speech.shape[1])
    target = train_motion(
        options.work,
        config,
        minutes=options.minutes,
        call_minutes=options.call_minutes,
        ema_cap=0.999 if options.preset == "demo" else 0.9999,
        batch=options.batch,
        lr=options.lr,
        seed=options.seed,
        device=options.device,
        bf16=options.bf16,
        start=options.start,
    )
    check = lip_check(load_network(target, MotionConfig, MotionGenerator).to(options.device), data)
    print(f"held-out lips in motion space: {report(check)}")
    print(target)


if __name__ == "__main__":
    main()
