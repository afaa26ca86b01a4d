"""The rows of the paper's three tables: what is shown of each clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.controls import Pose, RenderControls

TRUTH, OURS = "ground truth", "ours"
Kind = Literal["truth", "ours", "copied", "shuffled", "blurred", "decoder", "folder"]


class Row(BaseModel):
    """One row; of a kind "folder", `videos` gives its video by clip name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: int = Field(description="of the paper: 1, 2 or 3")
    name: str
    kind: Kind
    controls: RenderControls = RenderControls()
    has_hint: bool = Field(True, description="does the network see the portrait's motion m^i?")
    videos: dict[str, str] = Field(default_factory=dict, description="clip name -> file")


CONTROLS: tuple[tuple[str, Kind], ...] = (
    ("true motion, our decoder", "decoder"),
    ("source copied", "copied"),
    ("shuffled speech", "shuffled"),
    ("ground truth blurred", "blurred"),
)
SAMPLERS: tuple[Literal["dpm++", "ddim", "ddpm"], ...] = ("dpm++", "ddim", "ddpm")
STEPS = (4, 8, 20, 50)
POSES: tuple[Pose, ...] = ("hold", 0.5, "evolve", "free")
INTENSITIES = (0.1, 0.3, 0.6, 0.9, None)


def table_1(baselines: Sequence[Row]) -> list[Row]:
    """The real video, ours, other systems, and what a judge must not be fooled by."""
    rows = [Row(table=1, name=TRUTH, kind="truth"), Row(table=1, name=OURS, kind="ours"), *baselines]
    return rows + [Row(table=1, name=name, kind=kind) for name, kind in CONTROLS]


def table_2(quick: bool) -> list[Row]:
    """Steps by samplers."""
    return [
        Row(
            table=2, name=f"{sampler}, {steps} steps", kind="ours",
            controls=RenderControls(sampler=sampler, steps=steps),
        )
        for sampler in (SAMPLERS[:2] if quick else SAMPLERS)
        for steps in (STEPS[:3] if quick else STEPS)
    ]  # fmt: skip


def table_3(quick: bool) -> list[Row]:
    """Pose by intensity; and free pose without the hint, which is the paper's row without any control."""
    rows = [
        Row(table=3, name=_name(pose, intensity), kind="ours", controls=RenderControls(pose=pose, intensity=intensity))
        for pose in (POSES[::2] if quick else POSES)
        for intensity in (INTENSITIES[1::2] if quick else INTENSITIES)
    ]  # fmt: skip
    free = RenderControls(pose="free", intensity=None)
    return [
        *rows,
        Row(
            table=3,
            name="pose free, intensity free, hint dropped",
            kind="ours",
            controls=free,
            has_hint=False,
        ),
    ]


def _name(pose: Pose, intensity: float | None) -> str:
    return f"pose {pose}, intensity {'free' if intensity is None else intensity}"
