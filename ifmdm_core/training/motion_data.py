"""What stage 2 learns from: motion, speech features and lip measurements of every clip, as plain arrays.

clips.json      clips (`MotionClip`), widths, what made the arrays (digests)
motion.npy      float32 [N, 20]      speech.npy  float16 [N, S]
lips.npy        float32 [N, L]       measured lips: opening first, then shape; deviation 1 within clips
lip_map.safetensors                  lip_map [L, 20], lip_bias [L]: the linear map from m to those
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from ifmdm_core.errors import NotFound
from ifmdm_core.motion.transformer import MotionGenerator
from ifmdm_core.training.motion_statistics import MotionStatistics, fit_motion_statistics

Array = NDArray[np.float32]


@dataclass(frozen=True)
class MotionClip:
    """A run of rows `[first, first + num_frames)`."""

    name: str
    split: str
    """`train` or `heldout`."""
    kind: str
    """Kind of the source clip, or `silence` for a clip with quiet audio put in."""
    first: int
    num_frames: int

    @property
    def rows(self) -> slice:
        return slice(self.first, self.first + self.num_frames)


@dataclass
class MotionSet:
    """All arrays in memory (100,000 frames take about 70 MB)."""

    clips: list[MotionClip]
    motion: Array
    speech: NDArray[np.float16]
    lips: Array
    lip_map: Array
    lip_bias: Array
    lineage: dict[str, str]
    """Digests of encoder and speech encoder, and what else made the arrays."""

    def save(self, folder: str | Path) -> None:
        """Writes the set; clips.json comes last, so a folder that has it is whole."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("motion", "speech", "lips"):
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)
        maps = {
            "lip_map": np.ascontiguousarray(self.lip_map),
            "lip_bias": np.ascontiguousarray(self.lip_bias),
        }
        save_file(maps, folder / "lip_map.safetensors")  # safetensors writes memory as it lies
        record = {"clips": [asdict(clip) for clip in self.clips], "lineage": self.lineage}
        (folder / "clips.json").write_text(json.dumps(record))

    @classmethod
    def load(cls, folder: str | Path) -> MotionSet:
        """Raises NotFound when the folder holds no set."""
        folder = Path(folder)
        if not (folder / "clips.json").is_file():
            raise NotFound(
                f"{folder} holds no motion set: it has no clips.json",
                fix="make it with `python -m ifmdm_core.training.motion_extract`",
            )
        record = json.loads((folder / "clips.json").read_text())
        arrays = {
            name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("motion", "speech", "lips")
        }
        maps = load_file(folder / "lip_map.safetensors")
        clips = [MotionClip(**clip) for clip in record["clips"]]
        return cls(
            clips, **arrays, lip_map=maps["lip_map"], lip_bias=maps["lip_bias"], lineage=record["lineage"]
        )

    def of(self, split: str, silence: bool = False) -> list[MotionClip]:
        """Clips of a split; `silence` picks those with quiet audio put in instead of the real ones."""
        return [clip for clip in self.clips if clip.split == split and (clip.kind == "silence") == silence]


def fit_lip_map(
    motion: Array, lips: Array, clips: list[MotionClip], penalty: float = 1e-3
) -> tuple[Array, Array]:
    """Ridge regression m -> lips on deviations from clip means (speech moves lips within a clip).

    Args:
        motion: [N, 20]. lips: [N, L]. penalty: added variance of m.

    Returns:
        lip_map [L, 20], lip_bias [L].
    """
    x = np.concatenate([motion[c.rows] - motion[c.rows].mean(0) for c in clips])
    y = np.concatenate([lips[c.rows] - lips[c.rows].mean(0) for c in clips])
    solution = np.linalg.solve(x.T @ x + penalty * len(x) * np.eye(x.shape[1]), x.T @ y)  # [20, L]
    rows = np.concatenate([np.arange(c.first, c.first + c.num_frames) for c in clips])
    bias = lips[rows].mean(0) - motion[rows].mean(0) @ solution
    return solution.T.astype(np.float32), bias.astype(np.float32)


def lip_map_quality(data: MotionSet, split: str = "heldout") -> list[float]:
    """R^2 of the lip map within clips of a split, one value per lip measurement."""
    clips = data.of(split)
    true = np.concatenate([data.lips[c.rows] - data.lips[c.rows].mean(0) for c in clips])
    seen = np.concatenate([data.motion[c.rows] - data.motion[c.rows].mean(0) for c in clips]) @ data.lip_map.T
    return [round(float(r), 3) for r in 1 - ((true - seen) ** 2).sum(0) / (true**2).sum(0)]


def fit_statistics(model: MotionGenerator, data: MotionSet) -> MotionStatistics:
    """Fills the generator's buffers from the training clips; returns all that was fitted."""
    clips = [(data.motion[c.rows], data.speech[c.rows]) for c in data.of("train")]
    statistics = fit_motion_statistics(clips, model.config, data.lip_map, data.lip_bias)
    statistics.fill(model)
    return statistics
