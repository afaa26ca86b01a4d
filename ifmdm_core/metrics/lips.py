"""Lips over time: against the real video, against the audio, against silence (docs/measuring.md, tables 1 to 5).

A track is the gap between the inner lips per frame, in eye distances (`mouth.jaw_opening`), at 25 fps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.errors import BadInput

Track = NDArray[np.float32]

CLOSED = 0.035
"""Lips nearer than this, in eye distances, count as closed: the landmarker's closed lips read 0.00 to 0.03."""


class LipMatch(NamedTuple):
    """How one lip track follows another."""

    r: float
    """Correlation at lag 0."""
    lag: int
    """Frames by which ours comes late, where the correlation is highest (searched +-10)."""
    distance: float
    """Root mean square difference of the deviations over the truth's own deviation: 0 equal, 1 as bad as still."""


def correlation(a: Track, b: Track) -> float:
    """Pearson correlation; 0 when one of them stands still."""
    a, b = a - a.mean(), b - b.mean()
    power = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / power if power > 1e-9 else 0.0


def compare(ours: Track, truth: Track, reach: int = 10) -> LipMatch:
    """Compare two lip tracks of the same audio, [T] each.

    Raises:
        BadInput: different lengths, or not more than `2 * reach` frames.
    """
    if len(ours) != len(truth) or len(ours) <= 2 * reach:
        raise BadInput(
            f"lip tracks of {len(ours)} and {len(truth)} frames", fix=f"give equal lengths > {2 * reach}"
        )
    count = len(ours)
    scores = []
    for lag in range(-reach, reach + 1):
        late, early = max(lag, 0), max(-lag, 0)
        scores.append(correlation(ours[late : count - early], truth[early : count - late]))
    deviation = float(truth.std())
    distance = float(np.sqrt(((ours - ours.mean() - truth + truth.mean()) ** 2).mean())) / max(
        deviation, 1e-6
    )
    return LipMatch(scores[reach], int(np.argmax(scores)) - reach, distance)


def lip_range(track: Track) -> float:
    """p95 - p5 of a lip track: how far the mouth opens and closes."""
    low, high = np.percentile(track, [5, 95])
    return float(high - low)


def explained_by_audio(tracks: NDArray[np.float32]) -> float:
    """Share of the lips' variance over (audio, seed) that the audio explains, in [0, 1].

    Args:
        tracks: [audios, seeds, T]: every audio with every seed, same face.

    Two-way: at each frame the variance between audios' means, freed of what the seeds alone would put there,
    over the whole variance.

    Raises:
        BadInput: fewer than two audios or seeds.
    """
    audios, seeds = tracks.shape[:2]
    if audios < 2 or seeds < 2:
        raise BadInput(f"{audios} audios with {seeds} seeds", fix="give at least two of both")
    within = tracks.var(1, ddof=1).mean()
    between = tracks.mean(1).var(0, ddof=1).mean() - within / seeds
    return float(np.clip(between / max(between + within, 1e-12), 0.0, 1.0))


def cross_audio_r(tracks: NDArray[np.float32]) -> float:
    """Mean correlation of lips of different audios, [audios, T], with the same seed: what does not come from sound."""
    pairs = [(i, j) for i in range(len(tracks)) for j in range(i)]
    if not pairs:
        raise BadInput("one audio alone", fix="give tracks of at least two")
    return float(np.mean([correlation(tracks[i], tracks[j]) for i, j in pairs]))


def delay(before: Track, after: Track, reach: int = 25) -> int:
    """Frames that `after` is later than `before`, by the highest correlation; both start at the same time."""
    count = min(len(before), len(after))
    scores = []
    for lag in range(reach + 1):
        length = min(len(before), len(after) - lag, count)
        scores.append(correlation(before[:length], after[lag : lag + length]) if length > 10 else -1.0)
    return int(np.argmax(scores))


class Closures(NamedTuple):
    """Bilabials that were closed in time."""

    closed: int
    total: int
    chance: float
    """Share that random times would find closed."""

    @property
    def share(self) -> float:
        return self.closed / self.total if self.total else float("nan")


def bilabial_closures(
    track: Track, times: Sequence[float], fps: float = 25.0, within_s: float = 0.08, seed: int = 0
) -> Closures:
    """How many closures of the lips fall within +-80 ms of the spoken bilabials.

    A closure is a local minimum of the track that is either closed or in the lowest fifth of the track's range.

    Args:
        track: lip gap [T]. times: middles of the bilabials, seconds.
    """
    low, high = np.percentile(track, [5, 95])
    shut = max(CLOSED, float(low + 0.2 * (high - low)))
    padded = np.pad(track, 1, mode="edge")
    minima = (track <= padded[:-2]) & (track <= padded[2:]) & (track <= shut)
    if high - low < 1e-3:
        minima[:] = False  # a mouth that never moves closes nothing
    closures = np.flatnonzero(minima) / fps

    def found(moments: NDArray[np.float64]) -> NDArray[np.bool_]:
        if not len(closures):
            return np.zeros(len(moments), bool)
        return np.abs(moments[:, None] - closures).min(1) <= within_s + 1e-9

    random = np.random.default_rng(seed).uniform(0, len(track) / fps, 2000)
    return Closures(int(found(np.asarray(times, float)).sum()), len(times), float(found(random).mean()))
