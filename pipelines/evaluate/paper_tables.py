"""Figures of rows from those of their clips, with bootstrap intervals over clips; and the paper's three tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.metrics.bootstrap import Interval, bootstrap, mean_interval
from ifmdm_core.metrics.frechet import frechet_distance
from ifmdm_core.metrics.sync import relative_score
from ifmdm_core.metrics.tables import Better, Figure, Table
from ifmdm_core.metrics.video_score import TC
from pipelines.evaluate.examiner import RowResult
from pipelines.evaluate.report import RowFigures
from pipelines.evaluate.rows import OURS, TRUTH, Row

BETTER: dict[str, Better] = {
    "fid": "lower", "lse_d": "lower", "sharpness": "near 1", "range": "near 1", "distance": "lower",
}  # fmt: skip
"""Columns where more is not better."""
HEADS = {
    "fid": "FID", "csim": "CSIM", "lse_d": "LSE-D", "lse_c": "LSE-C", "S": "S", "lip_r": "lip r",
    "range": "lip range / truth", "psnr": "PSNR, dB", "ssim": "SSIM", "sharpness": "sharpness / truth", "fps": "fps",
}  # fmt: skip
MEANS = {"csim": "csim", "lse_d": "lse_d", "lse_c": "lse_c", "lip_r": "r", "range": "range", "psnr": "psnr",
         "ssim": "ssim", "sharpness": "sharpness", "fps": "fps"}  # fmt: skip
"""Columns that are means over clips, and the clip's figure they are means of."""
COLUMNS = {
    1: ("fid", "csim", "lse_d", "lse_c", "S", "lip_r", "range", "psnr", "ssim", "sharpness", "fps"),
    2: ("fps", "fid", "lse_d", "lse_c", "S", "lip_r", "psnr", "sharpness"),
    3: ("fid", "csim", "lse_d", "lse_c", "S", "lip_r", "range", "psnr"),
}
TITLES = {
    1: "Paper, table 1: ours beside the real video, other systems and controls",
    2: "Paper, table 2: samplers and steps",
    3: "Paper, table 3: pose and intensity",
}
FID_DRAWS = 200
NEEDS = {
    "fid": "not available: give --weights inception=FILE",
    "csim": "not available: give --weights arcface=FILE",
    "lse_d": "not available: give --weights syncnet-lips=FILE and syncnet-sound=FILE",
    "lse_c": "not available: give --weights syncnet-lips=FILE and syncnet-sound=FILE",
    "S": "not available: on these clips (of 60 frames and more) the scorer cannot tell truth from chance",
    "lip_r": "not available: no lips were found",
}


@dataclass
class Scored:
    """Results by row, then by clip."""

    results: dict[tuple[int, str], dict[str, RowResult]] = field(default_factory=dict)
    features: dict[tuple[int, str], dict[str, NDArray[np.float32]]] = field(default_factory=dict)

    def add(self, row: Row, clip: str, result: RowResult, features: NDArray[np.float32] | None) -> None:
        """One row of one clip."""
        self.results.setdefault((row.table, row.name), {})[clip] = result
        if features is not None:
            self.features.setdefault((row.table, row.name), {})[clip] = features

    def count(self, row: Row) -> int:
        """Clips that a row has figures of."""
        return len(self.results.get((row.table, row.name), {}))

    def column(self, table: int, row: str, name: str) -> dict[str, float]:
        """A figure by clip, where it was measured."""
        found = self.results.get((table, row), {})
        return {clip: result.figures[name] for clip, result in found.items() if name in result.figures}


def row_figures(scored: Scored, row: Row) -> RowFigures:
    """All columns of one row that could be measured."""
    figures: dict[str, Figure] = {}
    for column in COLUMNS[row.table]:
        found: tuple[Interval, int] | None
        if column == "fid":
            found = _fid(scored, row)
        elif column == "S":
            found = _relative(scored, row)
        else:
            values = list(scored.column(row.table, row.name, MEANS[column]).values())
            found = (mean_interval(values), len(values)) if values else None
        if found and (figure := Figure.of(found[0], found[1], BETTER.get(column, "higher"))):
            figures[column] = figure
    return RowFigures(table=row.table, row=row.name, figures=figures)


def _relative(scored: Scored, row: Row) -> tuple[Interval, int] | None:
    """S against the real video and the real video with another clip's sound, so that rows and bundles compare."""
    own = scored.column(row.table, row.name, "confidence")
    truth, chance = scored.column(1, TRUTH, "confidence"), scored.column(1, TRUTH, "chance")
    clips = sorted(own.keys() & truth.keys() & chance.keys())
    if len(clips) < 2:
        return None
    columns = ([source[clip] for clip in clips] for source in (own, truth, chance))
    return relative_score(*columns), len(clips)


def _fid(scored: Scored, row: Row) -> tuple[Interval, int] | None:
    """FID of a row's frames to the real ones of the same clips."""
    own, truth = scored.features.get((row.table, row.name), {}), scored.features.get((1, TRUTH), {})
    clips = sorted(own.keys() & truth.keys())
    if len(clips) < 2:
        return None

    def distance(chosen: NDArray[np.int64]) -> float:
        return frechet_distance(*(np.concatenate([part[clips[k]] for k in chosen]) for part in (own, truth)))

    return bootstrap(distance, np.arange(len(clips)), draws=FID_DRAWS), len(clips)


def paper_table(number: int, rows: Sequence[RowFigures], clips: Mapping[str, int], note: str) -> Table:
    """One of the three tables; a column that no row has is left out and named in the note.

    Args:
        clips: clips measured, by row.
    """
    its = [row for row in rows if row.table == number]
    shown = [column for column in COLUMNS[number] if any(column in row.figures for row in its)]
    absent = [column for column in COLUMNS[number] if column not in shown and column in NEEDS]
    reasons = [f"{HEADS[column]} {NEEDS[column]}" for column in absent]
    if number == 1:
        reasons.append(f"TC {TC}")
    table = Table(
        title=TITLES[number],
        columns=["row", "clips", *(HEADS[column] for column in shown)],
        note=" ".join([note, *(f"{reason}." for reason in reasons)]).strip(),
    )
    for row in its:
        table.add(row.row, clips.get(row.row, 0), *(row.figures.get(column) for column in shown))
    if number == 1:
        _checks(table, {row.row: row.figures for row in its})
    return table


def _checks(table: Table, rows: Mapping[str, Mapping[str, Figure]]) -> None:
    """Does the judge itself see what it must?"""
    ours, truth = rows.get(OURS, {}), rows.get(TRUTH, {})
    wrong, blurred = rows.get("shuffled speech", {}), rows.get("ground truth blurred", {})
    for name, better, worse, column in (
        ("shuffled speech falls in S", ours, wrong, "S"),
        ("shuffled speech falls in lip r", ours, wrong, "lip_r"),
        ("blur falls in SSIM", truth, blurred, "ssim"),
        ("blur falls in sharpness", truth, blurred, "sharpness"),
    ):
        if column in better and column in worse:
            a, b = better[column].value, worse[column].value
            table.gate(name, f"{a:.2f} to {b:.2f}", b < a)
