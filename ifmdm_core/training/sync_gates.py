"""Is a sync scorer valid? Offsets it must find, and probes in which it must see nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.metrics.bootstrap import Interval, bootstrap
from ifmdm_core.metrics.sync import EDGE, REACH, SyncCurve, sync_curve
from ifmdm_core.metrics.sync_model import MEL_PER_FRAME, WINDOW_FRAMES, SyncScorer
from ifmdm_core.training.sync_data import SyncClip

Array = NDArray[np.float32]

CHANCE = 3 / (2 * REACH + 1)
"""Offsets within one frame of the truth, out of those searched."""
GRID_GATE, PEOPLE_GATE = 0.95, 0.60
_SPAN = 75 + 2 * REACH
_AWAY = 50


@dataclass(frozen=True)
class GateReport:
    """Accuracies within one frame, with intervals over clips; None where no clip is long enough."""

    grid: Interval | None
    people: Interval | None
    grid_clips: int
    people_clips: int
    people_spans: int
    agree: Interval | None
    """Spans of people's clips whose offset is within one frame of the median of the clip's other spans. A clip may
    itself be out of sync, which counts as a miss in `people` but not here."""
    late_sound: Interval | None
    """Sound moved 5 frames late: how often the answer is +5 within one frame."""
    probes: dict[str, Interval]

    @property
    def valid(self) -> bool:
        """Both gates are met and no probe's interval lies above chance."""
        met = self.grid is not None and self.grid.value >= GRID_GATE
        met &= self.people is not None and self.people.value >= PEOPLE_GATE
        return met and all(probe.low <= CHANCE for probe in self.probes.values())

    def summary(self) -> str:
        """One line for the tables that a scorer's figures stand in."""
        people = f"{self.people} on held-out people ({self.people_clips} clips, {self.people_spans} spans)"
        return (
            f"offset within one frame, of +-{REACH} searched: {self.grid} on held-out GRID sentences "
            f"({self.grid_clips}), {people}, chance {CHANCE:.2f}; gates {'met' if self.valid else 'NOT met'}"
        )

    def __str__(self) -> str:
        def line(name: str, figure: Interval | None, needed: str) -> str:
            return f"{name:<28} {figure or 'not available'!s:<22} {needed}"

        rows = [
            line(f"GRID, {self.grid_clips} sentences", self.grid, f"needs {GRID_GATE:.2f}"),
            line(f"people, {self.people_clips} clips, {self.people_spans} spans", self.people,
                 f"needs {PEOPLE_GATE:.2f}"),
            line("same offset in other spans", self.agree, ""),
            line("sound 5 frames late", self.late_sound, ""),
            *(line(f"probe: {name}", value, f"chance {CHANCE:.2f}") for name, value in self.probes.items()),
            f"valid: {'yes' if self.valid else 'no'}",
        ]  # fmt: skip
        return "\n".join(rows)


def spans(clip: SyncClip) -> list[tuple[Array, Array]]:
    """A clip in pieces of 3 s with room to search, (mel, mouths); one piece when it is shorter."""
    mouths: Array = np.asarray(clip.mouths)
    count = max(1, len(mouths) // _SPAN)
    length = len(mouths) // count if count > 1 else len(mouths)
    frames = [slice(i * length, (i + 1) * length) for i in range(count)]
    return [(clip.mel[:, MEL_PER_FRAME * s.start : MEL_PER_FRAME * s.stop], mouths[s]) for s in frames]


def report_gates(scorer: SyncScorer, clips: Sequence[SyncClip]) -> GateReport:
    """Run every gate and probe on held-out clips; clips under 60 frames (news) are not scored."""
    long = [clip for clip in clips if len(clip.mouths) >= 60]
    grid = [clip for clip in long if clip.kind == "grid"]
    people = [clip for clip in long if clip.kind != "grid"]

    def accuracy(chosen: Sequence[SyncClip], change: _Change, truth: int = 0) -> Interval | None:
        hits = []
        for number, clip in enumerate(chosen):
            changed = [c for c in (change(m, v, number) for m, v in spans(clip)) if c is not None]
            curves = [sync_curve(scorer, mel, mouths) for mel, mouths in changed]
            if curves:
                hits.append((sum(_found(curve, truth) for curve in curves), len(curves)))
        if not hits:
            return None
        return bootstrap(lambda h, n: float(h.sum() / n.sum()), [h for h, _ in hits], [n for _, n in hits])

    everyone = [*grid, *people]
    probes = {name: accuracy(everyone, change) for name, change in _probes(everyone).items()}
    return GateReport(
        grid=accuracy(grid, _unchanged),
        people=accuracy(people, _unchanged),
        grid_clips=len(grid),
        people_clips=len(people),
        people_spans=sum(len(spans(clip)) for clip in people),
        agree=agreement([offsets_of(scorer, clip) for clip in people]),
        late_sound=accuracy(everyone, _late(5), 5),
        probes={name: value for name, value in probes.items() if value is not None},
    )


def offsets_of(scorer: SyncScorer, clip: SyncClip) -> list[int]:
    """The offset found in each span of a clip."""
    return [sync_curve(scorer, mel, mouths).offset for mel, mouths in spans(clip)]


def agreement(found: Sequence[Sequence[int]]) -> Interval | None:
    """Share of spans that agree within one frame with the median of their clip's other spans; None without any.

    Args:
        found: offsets of the spans of each clip.
    """
    hits = []
    for offsets in found:
        if len(offsets) > 1:
            others = [np.median([*offsets[:i], *offsets[i + 1 :]]) for i in range(len(offsets))]
            hits.append((sum(abs(a - b) <= 1 for a, b in zip(offsets, others, strict=True)), len(offsets)))
    if not hits:
        return None
    return bootstrap(lambda h, n: float(h.sum() / n.sum()), [h for h, _ in hits], [n for _, n in hits])


_Change = Callable[[Array, Array, int], tuple[Array, Array] | None]


def _found(curve: SyncCurve, truth: int) -> bool:
    return abs(curve.offset - truth) <= 1


def _unchanged(mel: Array, mouths: Array, number: int) -> tuple[Array, Array]:
    return mel, mouths


def _late(frames: int) -> _Change:
    """The sound comes late by cutting both streams: what is heard at frame t belongs to frame t - frames."""

    def change(mel: Array, mouths: Array, number: int) -> tuple[Array, Array]:
        return mel[:, : -MEL_PER_FRAME * frames], mouths[frames:]

    return change


def _probes(clips: Sequence[SyncClip]) -> dict[str, _Change]:
    def other_time(mel: Array, mouths: Array, number: int) -> tuple[Array, Array] | None:
        if len(mouths) - _AWAY < 2 * EDGE + WINDOW_FRAMES + 6:  # too short to go so far: another clip's mouth
            other: Array = np.asarray(clips[(number + 1) % len(clips)].mouths, np.float32)
            length = min(len(other), len(mouths))
            return mel[:, : MEL_PER_FRAME * length], other[:length]
        return mel[:, : -MEL_PER_FRAME * _AWAY], mouths[_AWAY:]

    def static(mel: Array, mouths: Array, number: int) -> tuple[Array, Array]:
        return mel, np.repeat(mouths[len(mouths) // 2][None], len(mouths), 0)

    def masked(mel: Array, mouths: Array, number: int) -> tuple[Array, Array]:
        grey = np.zeros_like(mouths)
        grey += 128 if mouths.dtype == np.uint8 else 0
        return mel, grey

    def envelope(mel: Array, mouths: Array, number: int) -> tuple[Array, Array]:
        noise = np.random.default_rng(number).standard_normal(mel.shape).astype(np.float32) * 0.6
        return mel.mean(0) + noise, mouths

    def silent(mel: Array, mouths: Array, number: int) -> tuple[Array, Array]:
        return np.full_like(mel, mel.mean()), mouths

    return {
        "mouth 50 frames away": other_time,
        "static lips": static,
        "sound alone (lips masked)": masked,
        "noise with the envelope": envelope,
        "mouth alone (no sound)": silent,
    }
