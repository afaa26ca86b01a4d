"""One video against the real one of the same sound: the figures of one cell row of the paper's tables.

Every row goes through `Judges.score`, the real video too, so equal frames give equal figures, to the last bit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.errors import BadInput, NotFound, nearest
from ifmdm_core.metrics.lips import compare, lip_range
from ifmdm_core.metrics.onnx_judges import IdentityJudge, InceptionJudge, SyncNetJudge
from ifmdm_core.metrics.reconstruction import EYE_RINGS, MOUTH_RING, psnr, region_box, sharpness, ssim
from ifmdm_core.metrics.stage import OWN, VARIABLE, Clip, Landmarks, Lips, chosen_landmarker
from ifmdm_core.metrics.sync import mel_frames, sync_curve
from ifmdm_core.metrics.sync_model import ASSETS, MEL_PER_FRAME, SyncScorer
from ifmdm_core.provenance import sha256_of_file

Array = NDArray[np.float32]
Frames = NDArray[np.uint8]

WEIGHTS = {
    "inception": "InceptionV3's pool3 (FID)",
    "arcface": "ArcFace (CSIM)",
    "syncnet-lips": "SyncNet's picture tower (LSE-C, LSE-D)",
    "syncnet-sound": "SyncNet's sound tower (LSE-C, LSE-D)",
}
"""Names under which weights are given, and what they are."""
SCORED_FRAMES = 60
"""Clips below this are too short for the sync scorer R."""
SHARP_EVERY = 5
"""Frames from one look at sharpness to the next."""
OWN_WEIGHTS = Path(__file__).parent.parent / "assets" / "face_net.safetensors"
TC = "not available: VideoScore's network is not in transformers, and it rewards stillness"


@dataclass(frozen=True)
class VideoScore:
    """Figures of one video; one that could not be measured is absent."""

    figures: dict[str, float]
    """confidence, offset, r, lag, range, psnr, ssim, sharpness, csim, lse_c, lse_d."""
    features: Array | None = None
    """Inception's, [k, d]; FID is made of all clips'."""


@dataclass(frozen=True)
class Judges:
    """Everything that looks at videos; what is None reads "not available"."""

    landmarks: Landmarks
    scorer: SyncScorer | None
    inception: InceptionJudge | None = None
    identity: IdentityJudge | None = None
    syncnet: SyncNetJudge | None = None
    digests: dict[str, str] = field(default_factory=dict)
    """Of the files behind them, by name."""

    @classmethod
    def load(cls, landmarker: str | Path | None = None, weights: dict[str, str] | None = None) -> Judges:
        """Open them all.

        Args:
            landmarker: a face_landmarker.task file or "own"; None: the environment's, which must be there.
            weights: ONNX files by the names in `WEIGHTS`.

        Raises:
            NotFound, BadInput: a file that is not there or not readable; an unknown name.
        """
        given = dict(weights or {})
        for name in given:
            if name not in WEIGHTS:
                raise BadInput(f"no judge takes weights {name!r}", fix=nearest(name, WEIGHTS))
        towers = given.get("syncnet-lips"), given.get("syncnet-sound")
        if (towers[0] is None) != (towers[1] is None):
            raise BadInput("SyncNet needs both syncnet-lips and syncnet-sound", fix="give both --weights")
        landmarks = chosen_landmarker(landmarker)
        own = str(landmarker or "") == OWN
        judge = OWN_WEIGHTS if own else Path(landmarker or os.environ.get(VARIABLE, ""))
        if landmarks is None:
            raise NotFound(
                "no face landmarker",
                fix=f"give --landmarker FILE (a face_landmarker.task) or own, or set {VARIABLE}",
            )
        scorer = ASSETS / "r.safetensors"
        return cls(
            landmarks,
            SyncScorer.load("R") if scorer.is_file() else None,
            InceptionJudge(given["inception"]) if "inception" in given else None,
            IdentityJudge(given["arcface"]) if "arcface" in given else None,
            SyncNetJudge(towers[0], towers[1]) if towers[0] and towers[1] else None,
            {
                "landmarker": sha256_of_file(judge),
                **{name: sha256_of_file(path) for name, path in sorted(given.items())},
            },
        )

    def score(self, truth: Clip, real_meshes: Array, frames: Frames, portrait: Frames) -> VideoScore:
        """Judge frames [n, S, S, 3], shown with the truth's sound, against the real ones; n may fall short.

        Args:
            truth: its crops are [T, S, S, 3].
            real_meshes: what `landmarks` sees in those crops, [T, 478, 3].
            portrait: the picture [S, S, 3] that the video was to show.
        """
        count = min(len(frames), len(truth.crops))
        frames, real = frames[:count], truth.crops[:count]
        figures = {
            "frames": float(count),
            "psnr": float(np.mean([psnr(a, b) for a, b in zip(frames, real, strict=True)])),
            "ssim": float(np.mean([ssim(a, b) for a, b in zip(frames, real, strict=True)])),
        }
        features = None if self.inception is None else self.inception.features(frames)
        meshes, real_meshes = self.landmarks(frames), real_meshes[:count]
        figures |= _sharpness(frames, meshes, real, real_meshes)
        lips, real_lips = Lips.of(meshes), Lips.of(real_meshes)
        if lips is not None and real_lips is not None:
            figures |= self._lips(truth.samples, lips, real_lips)
            if self.syncnet is not None and (found := self.syncnet.score(frames, meshes, truth.samples)):
                figures |= {"lse_d": found[0], "lse_c": found[1]}
        if self.identity is not None:
            seen = self.identity.embed(frames, meshes)
            known = self.identity.embed(portrait[None], self.landmarks(portrait[None]))
            if len(seen) and len(known):
                figures["csim"] = float((seen @ known[0]).mean())
        return VideoScore(figures, features)

    def confidence(self, lips: Lips, samples: Array) -> tuple[float, int] | None:
        """C and offset of lips with a sound, over what they share; None where that is too short."""
        count = min(len(lips.gap), len(samples) // 640)
        if self.scorer is None or count < SCORED_FRAMES:
            return None
        curve = sync_curve(
            self.scorer, mel_frames(samples, count)[:, : MEL_PER_FRAME * count], lips.points[:count]
        )
        return curve.confidence, curve.offset

    def _lips(self, samples: Array, lips: Lips, real: Lips) -> dict[str, float]:
        figures: dict[str, float] = {"lost": lips.lost}
        if len(lips.gap) > 20:
            match = compare(lips.gap, real.gap)
            figures |= {"r": match.r, "lag": float(match.lag), "distance": match.distance}
            figures["range"] = lip_range(lips.gap) / max(lip_range(real.gap), 1e-3)
        if (found := self.confidence(lips, samples)) is not None:
            figures |= {"confidence": found[0], "offset": float(found[1])}
        return figures


def _sharpness(frames: Frames, meshes: Array, real: Frames, real_meshes: Array) -> dict[str, float]:
    """Square root of the ratio of gradient energies in mouth and eyes, each video in its own boxes."""
    ours: list[float] = []
    theirs: list[float] = []
    for k in range(0, len(frames), SHARP_EVERY):
        if np.isfinite(meshes[k, 0, 0]) and np.isfinite(real_meshes[k, 0, 0]):
            for ring in (MOUTH_RING, EYE_RINGS):
                box, real_box = (
                    frames[k][region_box(meshes[k], ring)],
                    real[k][region_box(real_meshes[k], ring)],
                )
                if box.size and real_box.size:  # not outside the picture
                    ours.append(sharpness(box))
                    theirs.append(sharpness(real_box))
    if not ours:
        return {}
    return {"sharpness": float(np.sqrt(np.sum(ours) / max(np.sum(theirs), 1e-6)))}
