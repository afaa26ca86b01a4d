"""Pairs of frames become a batch: augmented alike, with the meshes of their faces and the samples' dropout masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ifmdm_core.errors import BadInput
from ifmdm_core.training.autoencoder_data import Augmentation
from ifmdm_core.training.crop_meshes import CropMeshes
from ifmdm_core.training.items import FramePair
from ifmdm_core.training.loop import sample_rng
from ifmdm_core.training.sample_wise import SampleDropout


@dataclass(frozen=True)
class PairBatches:
    """Makes batches; everything random about a pair comes from (seed, step, its number in the step)."""

    size: int
    """Side of the frames, pixels."""
    seed: int
    augmentation: bool
    meshes: CropMeshes | None
    """None: no face is looked for."""
    dropouts: Mapping[str, SampleDropout]
    pin: bool = False
    """Whether the batches go to a GPU."""

    def make(self, step: int, items: Sequence[tuple[int, FramePair]], count: int) -> dict[str, Tensor]:
        """The batch of b numbered pairs of a step that has `count` over all processes.

        Returns:
            `frames` uint8 [b, 2, S, S, 3]; `meshes` [b, 2, 478, 2] in crop coordinates; `known` [b], 1 where both
            frames have a face; `share` [b], 1 / count; `kept NAME` bool [b, views, width] for each dropout layer.

        Raises BadInput when a pair is of another size, naming its clip.
        """
        for _, pair in items:
            self._check(pair)
        # A source may draw from the sample's own stream, hence another one.
        streams = [sample_rng(self.seed, step, number).spawn(1)[0] for number, _ in items]
        frames = np.stack([pair.frames for _, pair in items])  # [b, 2, S, S, 3]
        changes = [Augmentation.draw(rng) for rng in streams] if self.augmentation else []
        for own, change in zip(frames, changes, strict=False):
            if change.flip:
                own[:] = own[:, :, ::-1].copy()
        meshes, known = self._find(frames)
        for index, change in enumerate(changes):
            rest, rng = replace(change, flip=False), streams[index]
            frames[index] = [rest.picture(frame, rng) for frame in frames[index]]
            meshes[index] = rest.points(meshes[index])
        # Where no face was seen, any square will do: its terms have weight 0.
        meshes[~known] = np.linspace(0.4, 0.6, meshes.shape[2])[:, None]
        batch = {
            "frames": torch.from_numpy(frames),
            "meshes": torch.from_numpy(meshes),
            "known": torch.from_numpy(known.astype(np.float32)),
            "share": torch.full((len(items),), 1 / count),
        }
        for name, layer in self.dropouts.items():
            # Motion is read from both frames of a pair, appearance from the first alone.
            views = 2 if name.startswith("motion_encoder.") else 1
            batch[f"kept {name}"] = torch.from_numpy(np.stack([layer.draw(rng, views) for rng in streams]))
        return {name: value.pin_memory() for name, value in batch.items()} if self.pin else batch

    def _check(self, pair: FramePair) -> None:
        if pair.frames.shape != (2, self.size, self.size, 3) or pair.frames.dtype != np.uint8:
            raise BadInput(
                f"the frames of clip {pair.clip_id} are {pair.frames.dtype} {list(pair.frames.shape)}",
                fix=f"this model is trained on uint8 [2, {self.size}, {self.size}, 3]",
            )

    def _find(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Meshes float32 [b, 2, 478, 2] of pairs [b, 2, S, S, 3], and whether both frames have one, [b]."""
        if self.meshes is None:
            return np.zeros((len(frames), 2, 478, 2), np.float32), np.zeros(len(frames), bool)
        # Pair by pair: a network's rounding depends on the length of its batch.
        found = [self.meshes(pair) for pair in frames]
        return np.stack([points for points, _ in found]), np.array([seen.all() for _, seen in found])
