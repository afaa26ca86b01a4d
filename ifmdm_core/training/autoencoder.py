"""Trains stage 1 in two phases that share one clock.

    python -m ifmdm_core.training.autoencoder --set SET --work WORK --phase flow --minutes 20
    python -m ifmdm_core.training.autoencoder --set SET --work WORK --phase picture --minutes 40

*flow*: the encoder learns the twenty face parameters and the flow fields learn where mesh points go. Targets
are meshes, not pictures, so this phase sees tens of times more faces a second than painting would.
*picture*: everything, from pictures. Motion comes from the parameters first and, towards the end, from the
encoder itself, so that the generator is used to what it will be given.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ifmdm_core.autoencoder import Autoencoder, AutoencoderConfig
from ifmdm_core.autoencoder.losses import gradient_l1, mesh_flow_l1, pyramid_l1, region
from ifmdm_core.training.autoencoder_data import PairDataset, SampleSpec, to_model
from ifmdm_core.training.dataset import TrainingSet
from ifmdm_core.training.face_parameters import EYE_POINTS, JAW_POINTS, LIP_POINTS
from ifmdm_core.training.loop import Ema, LoopState, TrainingLoop, set_lr, warmup_cosine

LEARNING_RATE = {"flow": 1e-3, "picture": 5e-4}
SPECS = {
    "flow": SampleSpec(sources=24, targets=8, pictures=False, carried=0.5),
    "picture": SampleSpec(sources=8, targets=2, pictures=True),
}
OWN_MOTION_FROM = 0.7
"""Share of the picture phase after which motion comes from the encoder."""


def mesh_weights() -> Tensor:
    """Weight of each mesh point in the flow loss, [478]: lips 4, eyes 2, jaw 2."""
    weights = torch.ones(478)
    weights[list(JAW_POINTS)] = 2.0
    weights[list(EYE_POINTS)] = 2.0
    weights[list(LIP_POINTS)] = 4.0
    return weights


class AutoencoderTraining:
    """One training step of either phase."""

    def __init__(
        self, model: Autoencoder, data: PairDataset, *, phase: str, device: str = "cpu", workers: int = 1
    ) -> None:
        self.model, self.data, self.phase, self.device, self.workers = model, data, phase, device, workers
        decay, plain = [], []
        for name, parameter in model.named_parameters():
            (decay if parameter.ndim > 1 and not name.startswith("basis") else plain).append(parameter)
        self.optimizer = torch.optim.AdamW(
            [{"params": decay, "weight_decay": 0.03}, {"params": plain, "weight_decay": 0.0}],
            lr=LEARNING_RATE[phase], betas=(0.9, 0.99),
        )  # fmt: skip
        self.weights = mesh_weights().to(device)
        self._batches: object = None

    def _batch(self, step: int) -> dict[str, Tensor]:
        if self._batches is None:  # first call, possibly after a resume
            sampler = range(step, len(self.data))
            loader = DataLoader(
                self.data, batch_size=None, sampler=sampler, num_workers=self.workers,
                prefetch_factor=4 if self.workers else None,
            )  # fmt: skip
            self._batches = iter(loader)
        batch = next(self._batches)  # type: ignore[call-overload]
        return {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}

    def step(self, state: LoopState) -> dict[str, Tensor]:
        """Forward, backward, update."""
        self.model.train()
        set_lr(self.optimizer, LEARNING_RATE[self.phase] * warmup_cosine(state, 100))
        batch = self._batch(state.step)
        with torch.autocast(self.device, torch.bfloat16):
            losses = self.flow_losses(batch) if self.phase == "flow" else self.picture_losses(batch, state)
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return {name: value.detach() for name, value in losses.items()}

    def flow_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Parameters and mesh displacement; no painting."""
        count = batch["targets"].shape[1]
        identity = self.model.encode_identity(to_model(batch["image"]))
        distilled = motion_loss(identity.motion, batch["motion"])
        identity = taught(self.model, identity, batch["motion"])
        flow, _, _ = self.model.flow(identity, batch["targets"].flatten(0, 1))
        mesh = mesh_flow_l1(
            flow, batch["target_mesh"].flatten(0, 1), batch["mesh"].repeat_interleave(count, 0), self.weights
        )
        still = batch["target_mesh"] - batch["mesh"][:, None]
        return {
            "loss": 10 * mesh + 3 * distilled,
            "mesh": mesh,
            "still": (still * 2).abs().sum(-1).mean(),
            "motion": distilled,
        }

    def picture_losses(self, batch: dict[str, Tensor], state: LoopState) -> dict[str, Tensor]:
        """Everything; flow supervision fades from 10 to 2."""
        count = batch["targets"].shape[1]
        image, wanted = to_model(batch["image"]), to_model(batch["target_image"])
        identity = self.model.encode_identity(image)
        distilled = motion_loss(identity.motion, batch["motion"])
        targets = batch["targets"].flatten(0, 1)
        if state.fraction < OWN_MOTION_FROM:
            identity, motion = taught(self.model, identity, batch["motion"]), targets
        else:
            motion = self.model.encode_motion(wanted)
            distilled = (distilled + motion_loss(motion, targets)) / 2
        output, warped, flow = self.model.paint(identity, motion)
        mesh_points = batch["target_mesh"].flatten(0, 1)
        mesh = mesh_flow_l1(flow, mesh_points, batch["mesh"].repeat_interleave(count, 0), self.weights)
        lips, eyes = mesh_points[:, list(LIP_POINTS)], mesh_points[:, list(EYE_POINTS)]
        output, warped = output.float(), warped.float()
        whole = pyramid_l1(output, wanted) + 0.5 * gradient_l1(output, wanted)
        mouth_wanted = region(wanted, lips, 72, 0.8)
        mouth_output = region(output, lips, 72, 0.8)
        mouth = pyramid_l1(mouth_output, mouth_wanted, 3) + 0.5 * gradient_l1(mouth_output, mouth_wanted)
        eyes_wanted, eyes_output = region(wanted, eyes, 72, 0.6), region(output, eyes, 72, 0.6)
        eye = pyramid_l1(eyes_output, eyes_wanted, 3) + 0.5 * gradient_l1(eyes_output, eyes_wanted)
        bent = pyramid_l1(warped, wanted) + pyramid_l1(region(warped, lips, 72, 0.8), mouth_wanted, 3)
        guide = 10 - 8 * min(1.0, state.fraction / OWN_MOTION_FROM)
        return {
            "loss": whole + mouth + 0.5 * eye + 0.3 * bent + guide * mesh + 3 * distilled,
            "whole": whole, "mouth": mouth, "eye": eye, "mesh": mesh, "motion": distilled,
        }  # fmt: skip


def motion_loss(motion: Tensor, wanted: Tensor) -> Tensor:
    """Smooth L1 between motion vectors [N, 20]."""
    return F.smooth_l1_loss(motion.float(), wanted, beta=0.1)


def taught(model: Autoencoder, identity, motion: Tensor):  # type: ignore[no-untyped-def]
    """The identity with m^i replaced by `motion` [B, 20]."""
    from dataclasses import replace

    with torch.autocast(motion.device.type, enabled=False):
        code = model.basis(motion)
        rest = model.flow_coefficients(identity.latent, code, torch.zeros_like(code))
    return replace(identity, motion=motion, rest=rest)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train stage 1.")
    parser.add_argument("--set", type=Path, required=True, help="training set folder")
    parser.add_argument("--work", type=Path, required=True, help="checkpoints and logs")
    parser.add_argument("--phase", choices=("flow", "picture"), required=True)
    parser.add_argument("--minutes", type=float, required=True, help="wall-clock budget of the phase")
    parser.add_argument("--call-minutes", type=float, help="stop this call earlier; the next one resumes")
    parser.add_argument("--start", type=Path, help="weights to start from (a safetensors file)")
    parser.add_argument("--sources", type=int, help="portraits a batch")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    train(**vars(arguments))


def train(
    *, set: Path, work: Path, phase: str, minutes: float, call_minutes: float | None = None,
    start: Path | None = None, sources: int | None = None, device: str = "cpu", seed: int = 0,
) -> Path:  # fmt: skip
    """Run one phase; returns the folder's exported weights, `autoencoder.safetensors` (averaged)."""
    from dataclasses import replace

    from safetensors.torch import load_file, save_file

    torch.manual_seed(seed)
    model = Autoencoder(AutoencoderConfig.preset("demo"))
    if start is not None:
        model.load_state_dict(load_file(start))
    model.to(device)
    for network in (model.encoder.levels, model.encoder.shrink, model.flow_fields, model.generator):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    spec = replace(SPECS[phase], seed=seed + (phase == "picture"))
    data = PairDataset(TrainingSet(set), replace(spec, sources=sources) if sources else spec)
    training = AutoencoderTraining(model, data, phase=phase, device=device)
    ema = Ema(model, 0.999)
    folder = work / phase
    loop = TrainingLoop(
        folder, {"model": model}, {"adamw": training.optimizer}, ema, minutes=minutes, call_minutes=call_minutes,
        title=f"stage 1 {phase}", seed=seed, log_steps=20,
    )  # fmt: skip
    exported = folder / "autoencoder.safetensors"

    def export(state: LoopState) -> None:
        draft = exported.with_suffix(".part")
        save_file({k: v.contiguous().cpu() for k, v in ema.shadow.items()}, draft)
        draft.replace(exported)

    loop.run(training.step, on_checkpoint=export)
    export(loop.state)
    return exported


if __name__ == "__main__":
    main()
