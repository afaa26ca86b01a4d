"""How stage 1 does on people it was not trained on: figures, a contact sheet, a reenactment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ifmdm_core.autoencoder import Autoencoder
from ifmdm_core.errors import BadInput
from ifmdm_core.media.contact_sheet import write_grid
from ifmdm_core.media.video_writer import VideoWriter
from ifmdm_core.metrics.mouth import jaw_opening, lifted
from ifmdm_core.metrics.reconstruction import EYE_RINGS, MOUTH_RING, gain_over_copying, psnr, region_box
from ifmdm_core.training.autoencoder_data import to_model
from ifmdm_core.training.autoencoder_objective import SATURATED
from ifmdm_core.training.crop_meshes import CropMeshes
from ifmdm_core.training.items import FramePair
from ifmdm_core.training.task import Validation

BATCH = 4
SHEET_PAIRS, SHEET_SIDE = 8, 192
MOVING = 0.05
"""Standard deviation from which a motion number counts as used."""
PROBE_PAIRS = 40
"""Fewest pairs that jaw opening is fitted to."""

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class HeldOut:
    """What is looked at, the same every time."""

    pairs: Sequence[FramePair]
    driving: Frames | None = None
    """Frames of one clip [n, S, S, 3], for a video; None: no video."""
    fps: float = 25.0


def look(model: Autoencoder, held_out: HeldOut, folder: Path, device: torch.device) -> Validation:
    """Paint every pair's second frame from its first, without augmentation, in float32.

    Figures: `psnr_db`; `mouth_gain_db` and `eyes_gain_db` over copying the source, on pairs with a face;
    `saturation`, share of motion beyond ±0.95; `motion_dims`, how many of its numbers vary; `jaw_r2`, how much of
    the change in mouth opening a linear map reads from the change in motion (of pairs left out; 40 pairs or more).
    Below 0.7 a motion generator has no lips to move.

    Raises BadInput when there are no pairs.
    """
    if not held_out.pairs:
        raise BadInput("there are no held-out pairs to look at", fix="give some, or do not validate")
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            sources, targets, painted, motion = _paint_pairs(model, held_out.pairs, device)
            metrics = _figures(sources, targets, painted, motion)
            sheet = folder / "pairs.png"
            shown = slice(0, SHEET_PAIRS)
            write_grid(sheet, [list(row[shown]) for row in (sources, targets, painted)], SHEET_SIDE)
            files = [sheet]
            if held_out.driving is not None:
                files.append(folder / "reenactment.mp4")
                _write_reenactment(files[-1], model, held_out, device)
    finally:
        model.train(was_training)
    return Validation(metrics, files)


def _paint_pairs(
    model: Autoencoder, pairs: Sequence[FramePair], device: torch.device
) -> tuple[Frames, Frames, Frames, NDArray[np.float32]]:
    """Source, target and painted pictures [n, S, S, 3], and the motion of sources, then targets, [2, n, 20]."""
    painted, motion = [], []
    for start in range(0, len(pairs), BATCH):
        frames = torch.from_numpy(np.stack([p.frames for p in pairs[start : start + BATCH]])).to(device)
        source, target = to_model(frames[:, 0]), to_model(frames[:, 1])
        own, driving = model.encode_motion(source), model.encode_motion(target)
        painted.append(to_bytes(model.decode(model.encode_identity(source, own), driving)))
        motion.append(torch.stack([own, driving]).cpu().numpy())
    frames_all = np.stack([p.frames for p in pairs])
    return frames_all[:, 0], frames_all[:, 1], np.concatenate(painted), np.concatenate(motion, 1)


def _figures(
    sources: Frames, targets: Frames, painted: Frames, motion: NDArray[np.float32]
) -> dict[str, float]:
    size, finder = sources.shape[1], CropMeshes.load()
    source_mesh, source_seen = finder(sources)
    mesh, target_seen = finder(targets)
    faces = np.flatnonzero(source_seen & target_seen)
    flat = motion.reshape(-1, motion.shape[-1])
    metrics = {
        "psnr_db": float(np.mean([psnr(a, b) for a, b in zip(painted, targets, strict=True)])),
        "saturation": float((np.abs(flat) > SATURATED).mean()),
        "motion_dims": float((flat.std(0) > MOVING).sum()),
    }
    for name, ring in (("mouth_gain_db", MOUTH_RING), ("eyes_gain_db", EYE_RINGS)):
        gains = [
            gain_over_copying(sources[i], targets[i], painted[i], region_box(mesh[i] * size, ring))
            for i in faces
        ]
        if gains:
            metrics[name] = float(np.mean(gains))
    if len(faces) >= PROBE_PAIRS:
        opening = jaw_opening(lifted(mesh[faces])) - jaw_opening(lifted(source_mesh[faces]))
        metrics["jaw_r2"] = left_out_r2(motion[1, faces] - motion[0, faces], opening)
    return metrics


def left_out_r2(inputs: NDArray[np.float32], wanted: NDArray[np.float32], ridge: float = 1e-2) -> float:
    """Share of the variance of `wanted` [n] that a ridge map of `inputs` [n, d] tells, each row by the others' map."""
    x = np.concatenate([inputs, np.ones((len(inputs), 1))], 1).astype(np.float64)
    y = wanted.astype(np.float64)
    hat = x @ np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T)  # [n, n]
    missed = (y - hat @ y) / (1 - np.diag(hat))
    return float(1 - (missed**2).mean() / max(y.var(), 1e-12))


def _write_reenactment(path: Path, model: Autoencoder, held_out: HeldOut, device: torch.device) -> None:
    """Side by side: the driving clip; the same person from its first frame; the first pair's person."""
    assert held_out.driving is not None
    first = held_out.driving[:1]
    portraits = [first, held_out.pairs[0].frames[:1]]
    identities = [model.encode_identity(to_model(torch.from_numpy(p).to(device))) for p in portraits]
    side = model.config.size
    with VideoWriter(path, (3 * side, side), held_out.fps) as video:
        for start in range(0, len(held_out.driving), BATCH):
            frames = np.ascontiguousarray(held_out.driving[start : start + BATCH])
            motion = model.encode_motion(to_model(torch.from_numpy(frames).to(device)))
            made = [to_bytes(model.decode(identity, motion)) for identity in identities]
            video.write(np.concatenate([frames, *made], 2))


def to_bytes(pictures: torch.Tensor) -> Frames:
    """float [N, 3, S, S] in [0, 1] to uint8 [N, S, S, 3]."""
    scaled = (pictures.float() * 255).round().clamp(0, 255).to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()
