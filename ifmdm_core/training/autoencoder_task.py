"""Stage 1 from clips alone: two frames of a person, one painted from the other (paper 3.2).

    model = new_autoencoder(AutoencoderConfig.preset("demo"), seed=0)    # or load_network(...), Bundle.autoencoder()
    task = AutoencoderTask(model, AutoencoderTaskConfig(), held_out=HeldOut(pairs), seed=0)
    fit(task, ListSource(pairs, size=8), FitSettings(steps=1000), FolderKeeper("work/stage1"))

Items are `FramePair`s of the model's size. No labels are read: where mouth and eyes are, and what the flow is guided
by, comes from the mesh that our own face net sees in each frame; frames without a face count for the whole picture
only. Motion comes from the motion encoder, which learns along (`train: all`) or is held still (`train: generator`),
so that motion datasets and motion generators made with it stay valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ifmdm_core.autoencoder import Autoencoder, AutoencoderConfig
from ifmdm_core.autoencoder.perceptual import PerceptualLoss
from ifmdm_core.training.adversarial import Adversary
from ifmdm_core.training.autoencoder_look import HeldOut, look
from ifmdm_core.training.autoencoder_objective import PictureObjective
from ifmdm_core.training.autoencoder_settings import AutoencoderTaskConfig
from ifmdm_core.training.crop_meshes import CropMeshes
from ifmdm_core.training.loop import LoopState, set_lr
from ifmdm_core.training.optimiser import in_parts, optimise
from ifmdm_core.training.pair_batch import PairBatches
from ifmdm_core.training.sample_wise import sample_dropout, share_statistics
from ifmdm_core.training.task import Share, TrainingTask, Validation
from ifmdm_core.training.world import World
from ifmdm_core.weights import save_weights


def new_autoencoder(config: AutoencoderConfig, seed: int) -> Autoencoder:
    """Random weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Autoencoder(config)


class AutoencoderTask(TrainingTask):
    """One stage 1 training.

    Args:
        model: starts from these weights; it is trained in place.
        held_out: frames that are looked at now and then; without, `validate` gives nothing.
        seed: of everything random; the same as the loop's.

    Raises:
        NotFound: face terms have weights, but the package lacks the face net. BadInput: bad perceptual weights.
    """

    title = "stage 1"

    def __init__(
        self,
        model: Autoencoder,
        config: AutoencoderTaskConfig | None = None,
        *,
        held_out: HeldOut | None = None,
        seed: int = 0,
    ) -> None:
        self.config = config = config or AutoencoderTaskConfig()
        self.model, self.held_out, self.seed = model, held_out, seed
        self.world, self.device = World(), torch.device("cpu")
        model.requires_grad_(True)
        self._dropouts = sample_dropout(model)
        if config.train == "generator":
            model.motion_encoder.requires_grad_(False)
            own = (name for name in list(self._dropouts) if name.startswith("motion_encoder."))
            for name in own:  # held in eval mode
                del self._dropouts[name]
        # The basis is made orthonormal whatever its length, so decay would only change its pace.
        others = [p for n, p in model.named_parameters() if p.requires_grad and n != "basis.weight"]
        self.optimizer = config.optimiser.adamw(others)
        self.optimizer.add_param_group({"params": [model.basis.weight], "weight_decay": 0.0})
        self.adversary: Adversary | None = None
        self.modules: dict[str, nn.Module] = {"autoencoder": model}
        self.optimizers: dict[str, torch.optim.Optimizer] = {"adamw": self.optimizer}
        if config.adversary is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.adversary = Adversary(config.adversary.lr)
            self.modules["adversary"], self.optimizers["adversary"] = self.adversary, self.adversary.optimizer
        self.averaged = model
        self._meshes = CropMeshes.load() if config.losses.need_faces or self.adversary else None
        perceptual = PerceptualLoss(config.perceptual) if config.perceptual else None
        self.objective = PictureObjective(model, config, self._dropouts, perceptual, self.adversary)
        self._wrapped: nn.Module = self.objective
        self._batches = self._make_batches()

    def distribute(self, world: World, device: torch.device) -> None:
        self.world, self.device = world, device
        share_statistics(self.model, world, device)
        self.objective.to(device)
        self.model.set_precision(torch.float32)  # which also sets the fast memory layout
        if self.adversary is not None:
            self.adversary.to(device)
        self._wrapped = world.wrap(self.objective, device)
        self._batches = self._make_batches()

    def _make_batches(self) -> PairBatches:
        return PairBatches(
            size=self.model.config.size,
            seed=self.seed,
            augmentation=self.config.augmentation,
            meshes=self._meshes,
            dropouts=self._dropouts,
            pin=self.device.type == "cuda",
        )

    def collate(self, share: Share) -> list[dict[str, Tensor]]:
        """The share's pairs in parts of nearly equal length (`PairBatches.make`).

        Raises BadInput when a pair is of another size than the model, or there are fewer pairs than parts.
        """
        parts = in_parts(share.items, self.config.optimiser.accumulate)
        return [self._batches.make(share.step, part, share.size) for part in parts]

    def step(self, state: LoopState, batch: list[dict[str, Tensor]]) -> Mapping[str, Tensor]:
        """Figures: `loss` (without the discriminators' part, so that it stays comparable), its terms, `faces` (share
        of pairs with a face in both frames), `saturation` (share of motion beyond ±0.95), `grad_norm`."""
        self.model.train()
        if self.config.train == "generator":
            self.model.motion_encoder.eval()
        set_lr(self.optimizer, self.config.optimiser.rate(state))
        parts = [{k: v.to(self.device, non_blocking=True) for k, v in part.items()} for part in batch]
        faces = self.world.sum(torch.stack([part["known"].sum() for part in parts]).sum())
        for part in parts:
            part["face_share"] = part["known"] / faces.clamp(min=1)
        settings = self.config.adversary
        self.objective.judged = judged = settings is not None and state.step >= settings.from_step
        figures = optimise(
            self._wrapped, parts, self.optimizer, self.config.optimiser, self.world, self.device
        )
        if self.adversary is not None and settings is not None:
            figures["discriminator"] = torch.zeros_like(figures["loss"])
            if judged:
                figures["loss"] = figures["loss"] - settings.weight * figures["adversary"]
                figures["discriminator"] = self.adversary.improve(
                    self.objective.seen,
                    step=state.step,
                    world=self.world,
                    precision=self.config.optimiser.precision,
                )
                self.objective.seen = []
        return figures

    def validate(self, step: int, folder: Path) -> Validation:
        """Figures, a contact sheet and a reenactment (`autoencoder_look.look`)."""
        if self.held_out is None:
            return Validation({})
        return look(self.model, self.held_out, folder, self.device)

    def export(self, path: Path, lineage: Mapping[str, str]) -> None:
        """Half precision, as bundles hold it."""
        save_weights(path, self.model, self.model.config, {"stage1": self.config.train, **lineage})
