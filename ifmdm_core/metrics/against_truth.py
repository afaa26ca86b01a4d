"""Table 1: our lips and their sync beside the real video's, and beside every row that a fake could hide behind."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.metrics.bootstrap import Interval, bootstrap, mean_interval
from ifmdm_core.metrics.lips import compare, lip_range
from ifmdm_core.metrics.stage import FPS, Clip, Lips, Stage
from ifmdm_core.metrics.sync import relative_score, sync_curve
from ifmdm_core.metrics.sync_model import MEL_PER_FRAME, SyncScorer
from ifmdm_core.metrics.tables import Table

Array = NDArray[np.float32]

LATE = 5
ROWS = (
    "ground truth", "ours", "source copied", "another clip's motion", "loudness-driven jaw", "4 Hz flapping",
    "shuffled audio", f"audio +{LATE} frames",
)  # fmt: skip
_SCORED_FRAMES = 60
"""Clips below this are too short for the sync scorer (news)."""


@dataclass
class Driven:
    """One real clip and what was rendered for its sound and portrait."""

    clip: Clip
    motion: Array
    """[T, 20] ours."""
    lips: dict[str, Lips] = field(default_factory=dict)
    """By row; rows that need no rendering are derived."""


def drive(stage: Stage, clip: Clip, other_motion: Array | None) -> Driven | None:
    """Render ours and the control motions for one clip; None where no face is found in ours."""
    frames = len(clip.crops)
    identity, hint = stage.subject(clip.crops[clip.source])
    own = stage.motion(clip.samples, hint, frames)
    driven = Driven(clip, own)
    rest = hint.float().cpu().numpy()
    direction = stage.opening_direction()
    size = float((stage.true_motion(clip.crops) @ stage.lip_map[0]).std())  # as strong as the truth
    motions = {
        "ours": own,
        "loudness-driven jaw": rest + np.outer(_unit(loudness(clip)) * size, direction),
        "4 Hz flapping": rest
        + np.outer(_unit(np.sin(2 * np.pi * 4 * np.arange(frames) / FPS)) * size, direction),
    }
    if other_motion is not None:
        motions["another clip's motion"] = other_motion[np.arange(frames) % len(other_motion)]
    for name, motion in motions.items():
        lips = stage.lips(identity, np.clip(motion, -0.999, 0.999).astype(np.float32))
        if lips is None:
            if name == "ours":
                return None
            continue
        driven.lips[name] = lips
    driven.lips["ground truth"] = clip.lips
    driven.lips["source copied"] = clip.lips.still(clip.source)
    return driven


def loudness(clip: Clip) -> Array:
    """Level of the sound at each frame, [T], nepers."""
    return np.asarray(clip.mel.mean(0).reshape(-1, MEL_PER_FRAME).mean(1), np.float32)


def _unit(track: Array) -> Array:
    return np.asarray((track - track.mean()) / max(float(track.std()), 1e-6), np.float32)


def sync_table(scorer: SyncScorer, driven: list[Driven], accuracy: str) -> Table:
    """C and S of every row on clips that are long enough, by kind. `accuracy` says what the scorer itself achieves."""
    table = Table(
        title="1a. Sync, scorer R",
        columns=["row", "clips", "C", "S", "offset within ±1"],
        note=f"S = (C - C_shuffled) / (C_truth - C_shuffled), 95 % bootstrap over clips. Scorer R itself: {accuracy}",
    )
    for kind in sorted({d.clip.kind for d in driven}):
        group = [d for d in driven if d.clip.kind == kind and len(d.clip.crops) >= _SCORED_FRAMES]
        if len(group) > 1:
            _sync_rows(table, scorer, kind, group)
    return table


def _sync_rows(table: Table, scorer: SyncScorer, kind: str, group: list[Driven]) -> None:
    found: dict[str, dict[int, tuple[float, int]]] = {row: {} for row in ROWS}
    for i, item in enumerate(group):
        mel = item.clip.mel
        for row, lips in item.lips.items():
            curve = sync_curve(scorer, mel, lips.points)
            found[row][i] = curve.confidence, curve.offset
        stranger = group[(i + 1) % len(group)].clip.mel
        count = min(stranger.shape[1] // MEL_PER_FRAME, len(item.clip.crops))
        ours = item.lips["ours"].points
        curve = sync_curve(scorer, stranger[:, : MEL_PER_FRAME * count], ours[:count])
        found["shuffled audio"][i] = curve.confidence, curve.offset
        curve = sync_curve(scorer, mel[:, : -MEL_PER_FRAME * LATE], ours[LATE:])
        found[ROWS[-1]][i] = curve.confidence, curve.offset
    score: Interval | None = None
    for row in ROWS:
        if not (values := found[row]):
            table.add(f"{kind}: {row}", 0, "not available: no face found", None, None)
            continue
        clips = sorted(values)
        confidence = [values[i][0] for i in clips]
        truth = [found["ground truth"][i][0] for i in clips]
        shuffled = [found["shuffled audio"][i][0] for i in clips]
        relative = relative_score(confidence, truth, shuffled)
        expected = LATE if row == ROWS[-1] else 0
        hits = mean_interval([float(abs(values[i][1] - expected) <= 1) for i in clips])
        name = f"{kind}: {row}" + (f" (answer +{LATE})" if expected else "")
        table.add(name, len(clips), mean_interval(confidence), relative, hits)
        if row == "ours":
            score = relative
        if row == ROWS[-1]:
            answer = float(np.median([values[i][1] for i in clips]))
            table.gate(f"{kind}: median answer to audio +{LATE}", answer, abs(answer - LATE) <= 1)
    if score is not None:
        table.gate(
            f"{kind}: S of ours above shuffled audio at 95 %",
            score,
            score.low > 0 if score.low == score.low else None,
        )


def lip_table(driven: list[Driven]) -> Table:
    """Lip opening of every row against the real video's, by kind."""
    table = Table(
        title="1b. Lip trajectory against the real video of the same audio",
        columns=["row", "clips", "r", "best lag", "distance", "range / truth"],
        note="Inner lip gap; r at lag 0, lag in frames (positive: late), distance 1 is as bad as a still mouth.",
    )
    for kind in sorted({d.clip.kind for d in driven}):
        group = [d for d in driven if d.clip.kind == kind]
        for row in ROWS[1:]:
            matches, ranges = [], []
            for i, item in enumerate(group):
                truth = item.clip.lips.gap
                gap = _row_gap(row, item, group[(i + 1) % len(group)])
                count = min(len(truth), len(gap)) if gap is not None else 0
                if gap is not None and count > 20 and (row != "shuffled audio" or len(group) > 1):
                    matches.append(compare(gap[:count], truth[:count]))
                    ranges.append(lip_range(gap) / max(lip_range(truth), 1e-3))
            if not matches:
                table.add(f"{kind}: {row}", 0, None, None, None, None)
                continue
            r = mean_interval([m.r for m in matches])
            lag = bootstrap(lambda lags: float(np.median(lags)), [m.lag for m in matches])
            distance = float(np.mean([m.distance for m in matches]))
            table.add(f"{kind}: {row}", len(matches), r, lag, distance, float(np.mean(ranges)))
            if row == "ours":
                ratio = float(np.mean(ranges))
                table.gate(f"{kind}: r above 0 at 95 %", r, r.low > 0)
                table.gate(f"{kind}: median lag within ±1 frame", lag.value, abs(lag.value) <= 1)
                table.gate(f"{kind}: lip range 0.5 to 1.5 of the truth's", ratio, 0.5 <= ratio <= 1.5)
    return table


def _row_gap(row: str, item: Driven, other: Driven) -> Array | None:
    if row == "shuffled audio":
        return other.lips["ours"].gap
    if row == ROWS[-1]:
        gap = item.lips["ours"].gap
        return np.concatenate([np.repeat(gap[:1], LATE), gap[:-LATE]])
    lips = item.lips.get(row)
    return None if lips is None else lips.gap
