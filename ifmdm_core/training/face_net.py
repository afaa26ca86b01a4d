"""Trains the face net: the detector on composed scenes, the landmarker on varied close-ups.

    python -m ifmdm_core.training.face_net --manifest DATA/manifest.csv --labels LABELS --work WORK --minutes 25

Collects the samples once into WORK, trains both nets (resumable: run it again), and writes
WORK/face_net.safetensors in half precision with the averaged weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ifmdm_core.media.face_net import (
    DETECT_SIDE,
    LEVELS,
    STRIDE,
    Detector,
    FaceNet,
    Landmarker,
    cut,
    overlap,
    to_tensor,
)
from ifmdm_core.training.face_samples import (
    MISTAKE_SCALE,
    FaceSamples,
    close_up,
    collect,
    degraded,
    mesh_look,
    scene,
)
from ifmdm_core.training.loop import Ema, LoopState, TrainingLoop, sample_rng, set_lr, warmup_cosine

EYES = (33, 263)  # outer corners: their distance is the unit of landmark errors
LIPS = (0, 13, 14, 17, 37, 39, 40, 61, 78, 80, 81, 82, 84, 87, 88, 91, 95, 146, 178, 181, 185, 191, 267, 269, 270,
        291, 308, 310, 311, 312, 314, 317, 318, 321, 324, 375, 402, 405, 409, 415)  # fmt: skip
LICENCE = "research and demonstration only, non-commercial: see docs/face-net.md"
SMALLEST = 7.0  # pixels: faces smaller than this in the detector's input are neither wanted nor punished


@dataclass(frozen=True)
class FaceNetTraining:
    """Sizes of the two trainings."""

    detector_steps: int = 1200
    """Steps of the detector; the schedule ends there."""
    landmarker_steps: int = 1500
    """Steps of the landmarker."""
    second_detector_steps: int = 800
    """Steps of the second round, which also learns from the first round's mistakes; 0 leaves it out."""
    second_landmarker_steps: int = 1000
    """Steps of the landmarker's second round."""
    mined_pictures: int = 600
    """Pictures that the first round's net is tried on to find its mistakes."""
    detector_batch: int = 20
    """Scenes per step."""
    landmarker_batch: int = 48
    """Close-ups per step."""
    scenes: int = 4000
    """Different scenes; each is composed once and looks different every time."""
    close_ups: int = 8000
    """Different close-ups."""
    lr: float = 2e-3
    """Peak learning rate of AdamW."""
    seed: int = 0


def detector_targets(boxes: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Targets of one scene with boxes [n, 4] in pixels on a map of cells x cells.

    Returns heat [cells, cells], values [4, cells, cells], where the values count [cells, cells] and where the heat
    does not [cells, cells].
    """
    heat = np.zeros((cells, cells), np.float32)
    values = np.zeros((4, cells, cells), np.float32)
    counts = np.zeros((cells, cells), np.float32)
    ignored = np.zeros((cells, cells), np.float32)
    rows, columns = np.mgrid[:cells, :cells] + 0.5
    for x, y, w, h in sorted(boxes.tolist(), key=lambda box: -box[2] * box[3]):
        cx, cy = (x + w / 2) / STRIDE, (y + h / 2) / STRIDE
        sigma = max(0.6, max(w, h) / STRIDE / 8)
        bump = np.exp(-((columns - cx) ** 2 + (rows - cy) ** 2) / (2 * sigma**2))  # [cells, cells]
        if max(w, h) < SMALLEST:
            ignored[bump > 0.1] = 1
            continue
        row, column = int(np.clip(cy, 0, cells - 1)), int(np.clip(cx, 0, cells - 1))
        heat = np.maximum(heat, 0.95 * bump)
        heat[row, column] = 1
        near = bump > 0.5
        near[row, column] = True
        shared = np.broadcast_to(np.log([w / STRIDE, h / STRIDE])[:, None], (2, int(near.sum())))
        values[:, near] = np.concatenate([[cx - columns[near]], [cy - rows[near]], shared])
        counts[near] = np.maximum(bump, 0.3)[near]
    return heat, values, counts, ignored


def detector_loss(grid: Tensor, heat: Tensor, values: Tensor, counts: Tensor, ignored: Tensor) -> Tensor:
    """Focal loss on the centre map, L1 on offsets and log sizes; grid [B, 5, R, C], the rest as targets, batched."""
    logit = grid[:, 0]
    p = logit.sigmoid()
    hit = (heat == 1).float()
    found = -F.logsigmoid(logit) * (1 - p) ** 2 * hit
    missed = -F.logsigmoid(-logit) * p**2 * (1 - heat) ** 4 * (1 - hit) * (1 - ignored)
    focal = (found + missed).sum() / hit.sum().clamp(min=1)
    placed = ((grid[:, 1:] - values).abs() * counts[:, None]).sum() / counts.sum().clamp(min=1)
    return focal + placed


def landmarker_loss(
    mesh: Tensor, box: Tensor, logit: Tensor, points: Tensor, is_face: Tensor
) -> dict[str, Tensor]:
    """Mesh and box errors in parts of the face, plus the face score; points [B, 478, 2], is_face [B]."""
    low, high = points.amin(1), points.amax(1)  # [B, 2]
    unit = (high - low).amax(1).clamp(min=0.1)  # [B]
    weight = torch.ones(points.shape[1])
    weight[list(LIPS)] = 2.0
    per_face = ((mesh - points).abs().mean(2) * weight / weight.mean()).mean(1) / unit
    corners = (box - torch.cat([low, high], 1)).abs().mean(1) / unit
    faces = is_face.sum().clamp(min=1)
    terms = {
        "mesh": (per_face * is_face).sum() / faces,
        "box": (corners * is_face).sum() / faces,
        "face": F.binary_cross_entropy_with_logits(logit, is_face),
    }
    return {"loss": 10 * terms["mesh"] + 5 * terms["box"] + 0.5 * terms["face"], **terms}


@dataclass
class Batches:
    """Batches of both trainings; composed pictures are kept, for composing costs more than a training step."""

    samples: FaceSamples
    config: FaceNetTraining

    def __post_init__(self) -> None:
        self._scenes: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._close_ups: dict[int, tuple[np.ndarray, np.ndarray, bool]] = {}

    def detector(self, step: int) -> list[Tensor]:
        """Pictures [B, 3, 160, 160] and the targets of `detector_loss`."""
        rows = []
        for index in range(self.config.detector_batch):
            rng = sample_rng(self.config.seed, step, index)
            key = int(rng.integers(self.config.scenes))
            if key not in self._scenes:
                self._scenes[key] = scene(self.samples, np.random.default_rng((self.config.seed, key)))
            picture, boxes = self._scenes[key]
            targets = detector_targets(boxes, picture.shape[0] // STRIDE)
            rows.append([to_tensor(degraded(picture, rng)), *map(torch.from_numpy, targets)])
        return [torch.stack(column).float() for column in zip(*rows)]

    def landmarker(self, step: int) -> list[Tensor]:
        """Grey pictures [B, 1, 112, 112], meshes [B, 478, 2] and face flags [B]."""
        looks, meshes, flags = [], [], []
        for index in range(self.config.landmarker_batch):
            rng = sample_rng(self.config.seed + 1, step, index)
            key = int(rng.integers(self.config.close_ups))
            if key not in self._close_ups:
                self._close_ups[key] = close_up(self.samples, np.random.default_rng((self.config.seed, key)))
            patch, mesh, is_face = self._close_ups[key]
            looks.append(mesh_look(patch, rng))
            meshes.append(mesh)
            flags.append(float(is_face))
        pictures = torch.from_numpy(np.stack(looks))[:, None].float() / 255
        return [pictures, torch.from_numpy(np.stack(meshes)), torch.tensor(flags)]


def train(
    samples: FaceSamples,
    work: Path,
    config: FaceNetTraining,
    minutes: float | None = None,
    resume: bool = True,
) -> FaceNet:
    """Train both nets in two rounds, or until `minutes` of this call are used; returns the averaged weights.

    The second round starts from the first and also shows what that took for faces.
    """
    started = time.monotonic()

    def left() -> float | None:
        return minutes and max(1e-5, minutes - (time.monotonic() - started) / 60)

    torch.manual_seed(config.seed)
    # Channels last trains a third faster on a CPU.
    net = FaceNet(Detector(), Landmarker())
    for part in (net.detector, net.landmarker):
        part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = (config.landmarker_steps, config.detector_steps)
    done = _round(net, samples, work, config, steps, left, resume)
    if not done or config.second_detector_steps == 0:
        return net
    mistakes = work / "mistakes.npz"
    if not (resume and mistakes.is_file()):
        found, free = mine(net, samples, config)
        np.savez(mistakes, mistakes=found, free=free)
    with np.load(mistakes, allow_pickle=False) as stored:
        samples = replace(samples, mistakes=list(stored["mistakes"]), free=int(stored["free"]))
    config = replace(config, seed=config.seed + 1000, lr=0.5 * config.lr)
    steps = (config.second_landmarker_steps, config.second_detector_steps)
    _round(net, samples, work / "second", config, steps, left, resume)
    return net


def _round(
    net: FaceNet,
    samples: FaceSamples,
    work: Path,
    config: FaceNetTraining,
    steps: tuple[int, int],
    left: Callable[[], float | None],
    resume: bool,
) -> bool:
    """Landmarker, then detector, for their steps; puts the averaged weights into `net`. Whether both finished."""
    batches = Batches(samples, config)

    def place(step: int) -> Mapping[str, Tensor]:
        picture, points, is_face = batches.landmarker(step)
        mesh, box, logit = net.landmarker(_last(picture))
        return landmarker_loss(mesh, box, logit, points, is_face)

    def detect(step: int) -> Mapping[str, Tensor]:
        picture, *targets = batches.detector(step)
        return {"loss": detector_loss(net.detector(_last(picture)), *targets)}

    finished = []
    parts = (("landmarker", net.landmarker, place), ("detector", net.detector, detect))
    for (name, part, losses), max_steps in zip(parts, steps):
        adam = torch.optim.AdamW(part.parameters(), lr=config.lr, weight_decay=1e-2)
        average = Ema(part, 0.998)
        loop = TrainingLoop(
            work / name, modules={"net": part}, optimizers={"adam": adam}, ema=average, max_steps=max_steps,
            call_minutes=left(), seed=config.seed, resume=resume, title=f"face {name}",
        )  # fmt: skip
        finished.append(loop.run(_step(part, adam, losses, config.lr, max_steps)).step >= max_steps)
        part.load_state_dict(average.shadow)
        part.eval()
    return all(finished)


def mine(net: FaceNet, samples: FaceSamples, config: FaceNetTraining) -> tuple[np.ndarray, int]:
    """Squares around things that are no face and that the net half believes in [n, 160, 160, 3], and how many, the
    first, show nothing of the picture's real face.
    """
    free: list[np.ndarray] = []
    beside: list[np.ndarray] = []
    order = np.random.default_rng(config.seed).permutation(len(samples))[: config.mined_pictures]
    for n in order.tolist():
        picture, mesh = samples.pictures[n], samples.meshes[n]
        low, high = mesh.min(0), mesh.max(0)
        truth = (*low.tolist(), *(high - low).tolist())
        for side in LEVELS[:3]:
            for box, _ in net.detect(picture, side)[:8]:
                face = net.refine(picture, box)
                if max(overlap(face.box, truth), overlap(box, truth)) > 0.05:
                    continue
                wide = MISTAKE_SCALE * max(box[2:])
                x, y = box[0] + box[2] / 2 - wide / 2, box[1] + box[3] / 2 - wide / 2
                patch = cut(picture, x, y, wide, DETECT_SIDE)
                apart = x + wide < low[0] or x > high[0] or y + wide < low[1] or y > high[1]
                (free if apart else beside).append(patch)
    found = np.array(free + beside, np.uint8).reshape(-1, DETECT_SIDE, DETECT_SIDE, 3)
    return found, len(free)


def _last(picture: Tensor) -> Tensor:
    return picture.contiguous(memory_format=torch.channels_last)


def _step(
    net: nn.Module,
    adam: torch.optim.Optimizer,
    losses: Callable[[int], Mapping[str, Tensor]],
    lr: float,
    max_steps: int,
) -> Callable[[LoopState], Mapping[str, Tensor]]:
    net.train()

    def step(state: LoopState) -> Mapping[str, Tensor]:
        set_lr(adam, lr * warmup_cosine(state, max(1, max_steps // 10)))
        terms = losses(state.step)
        adam.zero_grad(set_to_none=True)
        terms["loss"].backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        adam.step()
        return terms

    return step


def save(net: FaceNet, path: Path) -> None:
    """Both nets in half precision, as `FaceNet.load` reads them."""
    state = {}
    for prefix, part in (("detector.", net.detector), ("landmarker.", net.landmarker)):
        for key, value in part.state_dict().items():
            state[prefix + key] = value.half().contiguous() if value.is_floating_point() else value
    save_file(state, path, metadata={"format": "pt", "licence": LICENCE})


def evaluate(net: FaceNet, samples: FaceSamples) -> dict[str, float]:
    """Over whole pictures with one labelled face: recall at IoU 0.5, finds that are not the face, median and 95th
    percentile of the box's error (worst side, in parts of the face) and of the landmarks' (in inter-ocular distances).
    """
    found, extra, box_errors, errors = 0, 0, [], []
    for picture, mesh in zip(samples.pictures, samples.meshes):
        low, high = mesh.min(0), mesh.max(0)
        truth = (*low.tolist(), *(high - low).tolist())
        faces = net(picture)
        right = [face for face in faces if overlap(face.box, truth) >= 0.5]
        extra += len(faces) - len(right[:1])
        if not right:
            continue
        found += 1
        box, unit = right[0].box, max(truth[2:])
        corners = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]]) - (*low, *high)
        box_errors.append(np.abs(corners).max() / unit)
        ocular = np.linalg.norm(mesh[EYES[0]] - mesh[EYES[1]])
        errors.append(np.linalg.norm(right[0].landmarks - mesh, axis=1).mean() / ocular)
    empty = [float("nan")]
    return {
        "pictures": len(samples), "recall": found / len(samples), "other_finds": extra,
        "box_median": float(np.median(box_errors or empty)), "box_p95": float(np.percentile(box_errors or empty, 95)),
        "nme_median": float(np.median(errors or empty)), "nme_p95": float(np.percentile(errors or empty, 95)),
    }  # fmt: skip


def _samples(work: Path, manifest: Path, labels: Path, split: str) -> FaceSamples:
    path = work / f"{split}.npz"
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        collect(manifest, labels, split).save(path)
    return FaceSamples.load(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.csv beside the media")
    parser.add_argument(
        "--labels", type=Path, required=True, help="folder written by ifmdm_core.training.labels"
    )
    parser.add_argument("--work", type=Path, required=True, help="samples, checkpoints and the result")
    parser.add_argument("--minutes", type=float, help="budget of this call; run again to go on")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    cv2.setNumThreads(given.threads)
    samples = _samples(given.work, given.manifest, given.labels, "train")
    net = train(samples, given.work, FaceNetTraining(seed=given.seed), given.minutes)
    save(net, given.work / "face_net.safetensors")
    for name, value in evaluate(net, _samples(given.work, given.manifest, given.labels, "heldout")).items():
        print(f"{name:12} {value:.4g}")


if __name__ == "__main__":
    main()
