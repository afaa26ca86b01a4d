"""Trains stage 1 in five phases, each a resumable loop of its own; a phase starts from what earlier ones exported.

    python -m ifmdm_core.training.autoencoder --set SET --work WORK --phase motion --minutes 20
    python -m ifmdm_core.training.autoencoder --set SET --work WORK --phase parts --minutes 12
    python -m ifmdm_core.training.autoencoder --set SET --work WORK --phase flow --minutes 20
    python -m ifmdm_core.training.autoencoder --set SET --work WORK --phase picture --minutes 35
    python -m ifmdm_core.training.autoencoder --set SET --work WORK --phase finish --minutes 30

*motion*: the motion encoder learns head pose, and the mesh beside it, from single pictures.
*parts*: its two small networks learn lips and eyes from close-ups placed by the labels' pose, a little off.
*flow*: the flow fields learn where mesh points go when motion changes. Targets are meshes, not pictures, so this
phase sees tens of times more faces a second than painting would. Motion is taken from the parameters.
*picture*: appearance, flow and painting from pictures, motion still from the parameters.
*finish*: the same with motion from the frozen motion encoder, which is what the generator will be given.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ifmdm_core.autoencoder import Autoencoder, AutoencoderConfig
from ifmdm_core.autoencoder.closeups import LIP_DIM, POSE_DIM
from ifmdm_core.autoencoder.losses import mesh_flow_l1
from ifmdm_core.autoencoder.perceptual import PerceptualLoss
from ifmdm_core.errors import NotFound
from ifmdm_core.training.adversarial import Adversary, Judged
from ifmdm_core.training.autoencoder_data import PairDataset, PartDataset, SampleSpec, describe_face, to_model
from ifmdm_core.training.dataset import TrainingSet
from ifmdm_core.training.face_parameters import EYES as EYE_COLUMNS
from ifmdm_core.training.face_parameters import LIP_POINTS, LIPS
from ifmdm_core.training.loop import Ema, LoopState, TrainingLoop, set_lr, warmup_cosine
from ifmdm_core.training.picture_losses import PictureWeights, mesh_weights, picture_terms
from ifmdm_core.training.sample_grid import write_sample_grid
from ifmdm_core.weights import read_weights, save_weights

LEARNING_RATE = {"motion": 2e-3, "parts": 2e-3, "flow": 1e-3, "picture": 6e-4, "finish": 2e-4}
SPECS = {
    "motion": SampleSpec(sources=64, targets=0, pictures=False, reduced=True),
    "parts": SampleSpec(sources=96, targets=0, pictures=False),
    "flow": SampleSpec(sources=24, targets=8, pictures=False, carried=0.5),
    "picture": SampleSpec(sources=8, targets=2, pictures=True),
}
SPECS["finish"] = SPECS["picture"]
STARTS = {
    "motion": (),
    "parts": ("motion",),
    "flow": (),
    "picture": ("flow",),
    "finish": ("picture", "parts"),
}
"""Phases whose weights a phase starts from; the last gives the motion encoder where there are two."""
FLOW_GUIDE = 10.0
"""Weight of the mesh displacement where nothing is painted."""
PICTURE_WEIGHTS = {"picture": PictureWeights(mesh=5.0, paint=0.0), "finish": PictureWeights()}


class AutoencoderTraining:
    """One training step of either phase."""

    def __init__(
        self, model: Autoencoder, data: PairDataset, *, phase: str, device: str = "cpu", workers: int = 1,
        adversarial: bool = False, perceptual: Path | None = None,
    ) -> None:  # fmt: skip
        self.model, self.data, self.phase, self.device, self.workers = model, data, phase, device, workers
        self.trained = nn.ModuleDict({"model": model})
        if phase == "motion":
            # The mesh is a far richer answer than twenty numbers; it is asked for while training only.
            mesh = nn.Linear(model.config.latent_dim, 2 * 478)
            face = [model.motion_encoder.levels, model.motion_encoder.latent, model.motion_encoder.pose]
            self.trained = nn.ModuleDict({"face": nn.ModuleList(face), "mesh": mesh.to(device)})
        elif phase == "parts":
            parts = [model.motion_encoder.mouth, model.motion_encoder.eyes]
            self.trained = nn.ModuleDict({"parts": nn.ModuleList(parts)})
        else:
            model.motion_encoder.requires_grad_(False)
        decay: list[Tensor] = []
        plain: list[Tensor] = []
        for name, parameter in self.trained.named_parameters():
            if not parameter.requires_grad:
                continue
            (decay if parameter.ndim > 1 and "basis" not in name else plain).append(parameter)
        self.optimizer = torch.optim.AdamW(
            [{"params": decay, "weight_decay": 0.03}, {"params": plain, "weight_decay": 0.0}],
            lr=LEARNING_RATE[phase], betas=(0.9, 0.99),
        )  # fmt: skip
        self.weights = mesh_weights(torch.device(device))
        self.steps = 0
        self.adversary = Adversary().to(device) if adversarial else None
        self.perceptual = PerceptualLoss(perceptual).to(device) if perceptual else None
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
        self.trained.train()
        if self.phase in ("flow", "picture", "finish"):
            self.model.motion_encoder.eval()
        set_lr(self.optimizer, LEARNING_RATE[self.phase] * warmup_cosine(state, 100))
        self.steps = state.step
        batch = self._batch(state.step)
        with torch.autocast(self.device, torch.bfloat16):
            losses = self.losses(batch)
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.trained.parameters(), 1.0)
        self.optimizer.step()
        return {name: value.detach() for name, value in losses.items()}

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The phase's losses, `loss` among them, of one batch."""
        phases = {"motion": self.motion_losses, "parts": self.part_losses, "flow": self.flow_losses}
        return phases.get(self.phase, self.picture_losses)(batch)

    def motion_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Head pose and mesh of single pictures."""
        hidden = self.model.motion_encoder.hidden(to_model(batch["image"]))
        with torch.autocast(self.device, enabled=False):
            pose = torch.tanh(self.model.motion_encoder.pose(hidden))
            mesh = self.trained["mesh"](hidden).view(-1, 478, 2) + 0.5
        distilled = motion_loss(pose, batch["motion"][:, :POSE_DIM])
        missing = ((mesh - batch["mesh"]).abs().sum(-1) * self.weights).sum(1) / self.weights.sum()
        return {"loss": distilled + 10 * missing.mean(), "motion": distilled, "mesh": missing.mean()}

    def part_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Lips and eyes of close-ups."""
        mouth, eyes = to_model(batch["mouth"]), to_model(batch["eyes"])
        seen = self.model.motion_encoder.parts(mouth, eyes, batch["seen_pose"])
        lips = motion_loss(seen[:, :LIP_DIM], batch["motion"][:, LIPS])
        eye = motion_loss(seen[:, LIP_DIM:], batch["motion"][:, EYE_COLUMNS])
        return {"loss": lips + 0.5 * eye, "lips": lips, "eyes": eye}

    def flow_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mesh displacement; no painting."""
        count = batch["targets"].shape[1]
        identity = self.model.encode_identity(to_model(batch["image"]), batch["motion"])
        flow, _, _ = self.model.flow(identity, batch["targets"].flatten(0, 1))
        points, source = batch["target_mesh"].flatten(0, 1), batch["mesh"].repeat_interleave(count, 0)
        mesh = mesh_flow_l1(flow, points, source, self.weights).mean()
        still = ((batch["target_mesh"] - batch["mesh"][:, None]) * 2).abs().sum(-1).mean()
        return {"loss": FLOW_GUIDE * mesh, "mesh": mesh, "still": still}

    def picture_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Pictures, mouth and eyes above all, guided by the mesh."""
        image, wanted = to_model(batch["image"]), to_model(batch["target_image"])
        own, motion = batch["motion"], batch["targets"].flatten(0, 1)
        if self.phase == "finish":
            with torch.no_grad():
                own, motion = self.model.encode_motion(image), self.model.encode_motion(wanted)
        identity = self.model.encode_identity(image, own)
        output, warped, flow = self.model.paint(identity, motion)
        count = batch["targets"].shape[1]
        points, source = batch["target_mesh"].flatten(0, 1), batch["mesh"].repeat_interleave(count, 0)
        each = picture_terms(output, warped, flow, wanted, points, source)
        terms = {name: value.mean() for name, value in each.items()}
        loss = PICTURE_WEIGHTS[self.phase].total(terms)
        output = output.float()
        if self.perceptual is not None:
            loss = loss + 0.2 * self.perceptual(output, wanted).mean()
        if self.adversary is not None:
            judged = Judged.alone(wanted, output, points[:, list(LIP_POINTS)])
            if self.trained.training and torch.is_grad_enabled():
                self.adversary.improve([judged], step=self.steps)
            loss = loss + 0.02 * self.adversary.judge(judged)
        return {"loss": loss, **{name: terms[name] for name in ("whole", "mouth", "eyes", "mesh")}}


def motion_loss(motion: Tensor, wanted: Tensor) -> Tensor:
    """Smooth L1 between motion vectors [N, 20]."""
    return F.smooth_l1_loss(motion.float(), wanted, beta=0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train stage 1.")
    parser.add_argument("--set", type=Path, required=True, help="training set folder")
    parser.add_argument("--work", type=Path, required=True, help="checkpoints and logs")
    parser.add_argument("--phase", choices=tuple(SPECS), required=True)
    parser.add_argument("--minutes", type=float, required=True, help="wall-clock budget of the phase")
    parser.add_argument("--call-minutes", type=float, help="stop this call earlier; the next one resumes")
    parser.add_argument("--sources", type=int, help="portraits a batch")
    parser.add_argument("--adversarial", action="store_true", help="patch discriminators (GPU, last phase)")
    parser.add_argument("--perceptual", type=Path, help="VGG19 weights (safetensors) for a perceptual loss")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    train(**vars(arguments))


def train(
    *,
    set: Path,
    work: Path,
    phase: str,
    minutes: float,
    call_minutes: float | None = None,
    sources: int | None = None,
    adversarial: bool = False,
    perceptual: Path | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> Path:
    """Run one phase; returns its exported weights, `WORK/PHASE/autoencoder.safetensors` (averaged over steps).

    Raises NotFound when an earlier phase has not been run.
    """
    torch.manual_seed(seed)
    model = Autoencoder(AutoencoderConfig.preset("demo"))
    for earlier in STARTS[phase]:
        load_phase(model, work, earlier)
    model.to(device)
    model.set_precision(torch.float32)
    spec = replace(SPECS[phase], seed=seed + list(SPECS).index(phase))
    spec = replace(spec, sources=sources) if sources else spec
    kind = PartDataset if phase == "parts" else PairDataset
    data = kind(TrainingSet(set), spec)
    if phase == "motion":
        describe_face(model.motion_encoder.closeups, data.model)
    training = AutoencoderTraining(
        model, data, phase=phase, device=device, adversarial=adversarial, perceptual=perceptual
    )
    modules: dict[str, nn.Module] = {"trained": training.trained, "model": model}
    optimizers: dict[str, torch.optim.Optimizer] = {"adamw": training.optimizer}
    if training.adversary is not None:
        modules["adversary"], optimizers["adversary"] = training.adversary, training.adversary.optimizer
    ema = Ema(model, 0.999)
    loop = TrainingLoop(
        work / phase, modules, optimizers, ema,
        minutes=minutes, call_minutes=call_minutes, title=f"stage 1 {phase}", seed=seed, log_steps=20,
    )  # fmt: skip
    exported = exported_path(work, phase)

    def export(state: LoopState) -> None:
        draft = exported.with_suffix(".part")
        with ema.applied():
            save_weights(draft, model, model.config, {"phase": phase, "steps": str(state.step)})
            if phase in ("picture", "finish"):
                picture = work / phase / f"samples-{state.step:06d}.jpg"
                write_sample_grid(model, data.set, picture, own_motion=phase == "finish")
        draft.replace(exported)

    loop.run(training.step, on_checkpoint=export)
    export(loop.state)
    return exported


def exported_path(work: Path, phase: str) -> Path:
    """Where a phase leaves its weights."""
    return work / phase / "autoencoder.safetensors"


def load_phase(model: Autoencoder, work: Path, phase: str) -> None:
    """Load what `phase` exported; of phases `motion` and `parts`, the motion encoder only."""
    path = exported_path(work, phase)
    if not path.is_file():
        raise NotFound(f"{path} is missing", fix=f"run the phase `{phase}` first")
    weights, _, _ = read_weights(path)
    if phase in ("motion", "parts"):
        prefix = "motion_encoder."
        weights = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        model.motion_encoder.load_state_dict(weights)
    else:
        model.load_state_dict(weights)


if __name__ == "__main__":
    main()
