"""The sync scorers' networks: sound and mouth windows of 11 frames in one space.

Both towers are convolutions without padding, so an embedding sees its own window and nothing that tells where in
the clip it is. R looks at lip points, P at grey mouth pictures; they share nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.metrics.mel import NUM_MELS

WINDOW_FRAMES = 11
MEL_PER_FRAME = 4
MOUTH_SIZE = (64, 96)
"""Height and width of P's grey mouth pictures."""
ScorerInput = Literal["points", "pictures"]
ASSETS = Path(__file__).parent.parent / "assets" / "sync"


class AudioTower(nn.Module):
    """Log-mels [b, 64, 4 T] at 100 Hz to embeddings [b, T - 10, dim]: one per window of 11 frames.

    Each mel column's own level is taken out first: loudness says when somebody speaks, and a scorer that reads
    only that would be satisfied by flapping to the envelope.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(NUM_MELS, 160, 4, stride=2), nn.BatchNorm1d(160), nn.GELU(),
            nn.Conv1d(160, 192, 3, stride=2), nn.BatchNorm1d(192), nn.GELU(),  # 25 Hz, sees 8 columns
            nn.Conv1d(192, 224, 5), nn.BatchNorm1d(224), nn.GELU(),
            nn.Conv1d(224, 224, 3), nn.BatchNorm1d(224), nn.GELU(), nn.Dropout(0.1),
            nn.Conv1d(224, dim, 4),  # sees 44 columns
        )  # fmt: skip

    def forward(self, mel: Tensor) -> Tensor:
        level = mel - mel.mean(1, keepdim=True)  # [b, 64, n]
        return nn.functional.normalize(self.layers(level / 2.0).transpose(1, 2), dim=-1)


class PointTower(nn.Module):
    """Lip points [b, T, 40, 2] in eye distances, with their velocity, to embeddings [b, T - 10, dim]."""

    mean: Tensor
    deviation: Tensor
    speed: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(80))
        self.register_buffer("deviation", torch.ones(80))
        self.register_buffer("speed", torch.ones(80))
        self.layers = nn.Sequential(
            nn.Conv1d(160, 224, 4), nn.BatchNorm1d(224), nn.GELU(),
            nn.Conv1d(224, 224, 4), nn.BatchNorm1d(224), nn.GELU(),
            nn.Conv1d(224, 224, 3), nn.BatchNorm1d(224), nn.GELU(), nn.Dropout(0.1),
            nn.Conv1d(224, dim, 2),
        )  # fmt: skip

    def forward(self, points: Tensor) -> Tensor:
        flat = points.flatten(2)  # [b, T, 80]
        velocity = flat.diff(dim=1) / self.speed  # [b, T - 1, 80]
        place = (flat - self.mean) / self.deviation
        stacked = torch.cat([place[:, 1:], velocity], -1).transpose(1, 2)  # [b, 160, T - 1]
        return nn.functional.normalize(self.layers(stacked).transpose(1, 2), dim=-1)


class PictureTower(nn.Module):
    """Grey mouths [b, T, 64, 96] in [0, 1] to embeddings [b, T - 10, dim]."""

    def __init__(self, dim: int) -> None:
        super().__init__()

        def block(inward: int, outward: int, kernel: int) -> list[nn.Module]:
            conv = nn.Conv2d(inward, outward, kernel, stride=2, padding=kernel // 2)
            return [conv, nn.BatchNorm2d(outward), nn.GELU()]

        self.frame = nn.Sequential(
            *block(2, 16, 5), *block(16, 32, 3), *block(32, 64, 3), *block(64, 96, 3),
            nn.Flatten(), nn.Dropout(0.1), nn.Linear(96 * 24, 160),
        )  # fmt: skip
        self.layers = nn.Sequential(
            nn.Conv1d(160, 192, 4), nn.BatchNorm1d(192), nn.GELU(),
            nn.Conv1d(192, 192, 4), nn.BatchNorm1d(192), nn.GELU(),
            nn.Conv1d(192, 192, 3), nn.BatchNorm1d(192), nn.GELU(), nn.Dropout(0.1),
            nn.Conv1d(192, dim, 2),
        )  # fmt: skip

    def forward(self, mouths: Tensor) -> Tensor:
        mean = mouths.mean((1, 2, 3), keepdim=True)
        level = (mouths - mean) / mouths.std((1, 2, 3), keepdim=True).clamp_min(0.02)
        pairs = torch.stack([level[:, 1:], level.diff(dim=1) * 2], 2)  # [b, T - 1, 2, 64, 96]
        frames = self.frame(pairs.flatten(0, 1)).unflatten(0, pairs.shape[:2])  # [b, T - 1, 160]
        return nn.functional.normalize(self.layers(frames.transpose(1, 2)).transpose(1, 2), dim=-1)


class SyncScorer(nn.Module):
    """Two towers. Cosines between their embeddings say how well sound and mouth belong together."""

    def __init__(self, sees: ScorerInput, dim: int = 128) -> None:
        super().__init__()
        self.sees: ScorerInput = sees
        self.audio = AudioTower(dim)
        self.mouth: nn.Module = PointTower(dim) if sees == "points" else PictureTower(dim)
        self.sharpness = nn.Parameter(torch.tensor(2.5))

    def forward(self, mel: Tensor, mouths: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of sound and mouth, each [b, T - 10, dim], from [b, 64, 4 T] and T frames."""
        return self.audio(mel), self.mouth(mouths)

    def save(self, path: str | Path) -> None:
        """Write the weights as safetensors (float16; batch statistics stay float32)."""
        tensors = {
            name: value.to(torch.float16) if value.is_floating_point() and value.ndim > 1 else value.clone()
            for name, value in self.state_dict().items()
        }
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata={"sees": self.sees})

    @classmethod
    def load(cls, which: Literal["R", "P"] | str | Path = "R") -> SyncScorer:
        """The packaged scorer R or P, or one from a safetensors file; in eval mode.

        Raises NotFound when there is no such file, BadInput when it is no scorer.
        """
        path = ASSETS / f"{which.lower()}.safetensors" if which in ("R", "P") else Path(which)
        if not path.is_file():
            raise NotFound(
                f"no sync scorer at {path}", fix="train one: python -m ifmdm_core.training.sync --help"
            )
        with safe_open(path, "pt") as file:
            sees = (file.metadata() or {}).get("sees")
        if sees not in ("points", "pictures"):
            raise BadInput(
                f"{path} holds no sync scorer", fix="give a file that ifmdm_core.training.sync wrote"
            )
        state = {name: value.float() for name, value in load_file(path).items()}
        scorer = cls(sees, dim=state["audio.layers.13.weight"].shape[0])
        scorer.load_state_dict(state)
        return scorer.eval().requires_grad_(False)
