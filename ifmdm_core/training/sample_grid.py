"""What stage 1 makes of people it has not seen: source, target, warped, painted, as one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ifmdm_core.autoencoder import Autoencoder
from ifmdm_core.media.contact_sheet import write_grid
from ifmdm_core.training.autoencoder_data import to_model
from ifmdm_core.training.dataset import TrainingSet
from ifmdm_core.training.face_parameters import LIPS


def most_different_pairs(data: TrainingSet, count: int) -> list[tuple[int, int]]:
    """For `count` held-out clips, evenly spaced, the first frame and the one whose lips differ most from it."""
    clips = [c for c in data.clips if c.split == "heldout" and c.num_frames > 8]
    pairs = []
    for clip in clips[:: max(1, len(clips) // count)][:count]:
        rows = clip.first + np.flatnonzero(data.valid[clip.rows])
        distance = np.abs(data.targets[rows] - data.targets[rows[0]])[:, LIPS].mean(1)
        pairs.append((int(rows[0]), int(rows[distance.argmax()])))
    return pairs


@torch.inference_mode()
def write_sample_grid(
    model: Autoencoder, data: TrainingSet, path: Path, *, own_motion: bool, count: int = 8
) -> None:
    """Write one column a pair; motion comes from the labels, or from the motion encoder with `own_motion`."""
    device = model.basis.weight.device
    was_training = model.training
    model.eval()
    rows: list[list[np.ndarray]] = [[], [], [], []]
    for source, target in most_different_pairs(data, count):
        pictures = np.stack([data.frame(source), data.frame(target)])
        images = to_model(torch.from_numpy(pictures)).to(device)
        motion = (
            model.encode_motion(images) if own_motion else torch.from_numpy(data.targets[[source, target]])
        )
        identity = model.encode_identity(images[:1], motion[:1].to(device))
        painted, warped, _ = model.paint(identity, motion[1:].to(device))
        made = [(p[0].permute(1, 2, 0).float().cpu().numpy() * 255).clip(0, 255) for p in (warped, painted)]
        for row, picture in zip(rows, [*pictures, *made], strict=True):
            row.append(picture.astype(np.uint8))
    model.train(was_training)
    write_grid(path, rows, 192)
