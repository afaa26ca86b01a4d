"""Tables 2 to 5: do the lips answer to the sound, and to nothing else?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.controls import RenderControls
from ifmdm_core.metrics.lips import (
    CLOSED,
    bilabial_closures,
    correlation,
    cross_audio_r,
    delay,
    explained_by_audio,
    lip_range,
)
from ifmdm_core.metrics.stage import FPS, Clip, Stage
from ifmdm_core.metrics.sync import speech_windows
from ifmdm_core.metrics.tables import Table
from ifmdm_core.speech_synthesis import BILABIALS, syllables, synthesize_phones

Array = NDArray[np.float32]

PAUSE_S = 0.4
SYLLABLES = ("pa-ma-ba pa-ba-ma", "ma-pi-bu ba-mo-pa", "bo-ma-pe mi-pa-ba")


def _gap(stage: Stage, identity: Any, hint: Any, samples: Array, controls: RenderControls) -> Array:
    frames = (2 * len(samples) * FPS + 16000) // 32000
    lips = stage.lips(identity, stage.motion(samples, hint, frames, controls))
    return np.zeros(frames, np.float32) if lips is None else lips.gap


def intervention_table(
    stage: Stage, picture: NDArray[np.uint8], sounds: list[Array], seeds: int = 5
) -> Table:
    """Table 2: every sound with every seed on one face."""
    table = Table(
        title="2. Intervention: sounds x seeds on one face",
        columns=["measure", "value"],
        note=f"{len(sounds)} sounds, {seeds} seeds, lips from the reference landmarker on renders.",
    )
    identity, hint = stage.subject(picture)
    count = min(len(sound) for sound in sounds)
    tracks = np.stack([
        np.stack([_gap(stage, identity, hint, sound[:count], RenderControls(seed=seed)) for seed in range(seeds)])
        for sound in sounds
    ])  # fmt: skip  # [sounds, seeds, T]
    explained, crossed = explained_by_audio(tracks), cross_audio_r(tracks[:, 0])
    same = float(np.mean([cross_audio_r(track) for track in tracks]))
    table.add("lip variance explained by the sound", explained)
    table.add("r of different sounds, same seed", crossed)
    table.add("r of the same sound, different seeds", same)
    table.gate("explained by the sound, at least 0.5", explained, explained >= 0.5)
    table.gate("r across sounds below 0.2", crossed, crossed < 0.2)
    return table


def equivariance_table(stage: Stage, picture: NDArray[np.uint8], sounds: list[Array]) -> Table:
    """Table 3: silence put before the sound delays the lips; loudness changes little."""
    table = Table(
        title="3. Equivariance",
        columns=["change", "sounds", "value"],
        note="Delay in frames of the lips by the highest correlation; r with the unchanged sound's lips.",
    )
    identity, hint = stage.subject(picture)
    plain = RenderControls()
    delays: list[int] = []
    gains: dict[int, list[float]] = {-12: [], 12: []}
    for sound in sounds:
        before = _gap(stage, identity, hint, sound, plain)
        late = np.concatenate([np.zeros(round(PAUSE_S * 16000), np.float32), sound])
        delays.append(delay(before, _gap(stage, identity, hint, late, plain)))
        for gain, rs in gains.items():
            rs.append(correlation(before, _gap(stage, identity, hint, _gained(sound, gain), plain)))
    expected, middle = round(PAUSE_S * FPS), float(np.median(delays))
    table.add(
        f"{PAUSE_S} s of silence before: median delay (expected {expected})",
        len(sounds),
        middle,
    )
    table.gate(f"lips {expected} ± 1 frames later", middle, abs(middle - expected) <= 1)
    for gain, rs in gains.items():
        table.add(f"{gain:+d} dB: r", len(sounds), float(np.mean(rs)))
        table.gate(f"r at {gain:+d} dB at least 0.9", float(np.mean(rs)), float(np.mean(rs)) >= 0.9)
    return table


def _gained(sound: Array, gain_db: int) -> Array:
    return np.clip(sound * 10 ** (gain_db / 20), -1, 1).astype(np.float32)


def bilabial_table(stage: Stage, picture: NDArray[np.uint8]) -> Table:
    """Table 4: closures of the lips at the known times of synthetic bilabials."""
    table = Table(
        title="4. Bilabials of synthetic speech",
        columns=["text", "closed within ±80 ms", "bilabials", "chance"],
    )
    identity, hint = stage.subject(picture)
    closed = total = 0
    chances = []
    for number, text in enumerate(SYLLABLES):
        samples, times = synthesize_phones([("sil", 0.3), *syllables(text, 0.32), ("sil", 0.3)], seed=number)
        middles = [(time.start + time.end) / 2 for time in times if time.phone in BILABIALS]
        found = bilabial_closures(_gap(stage, identity, hint, samples, RenderControls()), middles)
        table.add(text, found.closed, found.total, found.chance)
        closed, total = closed + found.closed, total + found.total
        chances.append(found.chance)
    share = closed / max(total, 1)
    table.gate(f"closures in at least 70 % (chance {100 * np.mean(chances):.0f} %)", share, share >= 0.7)
    return table


def silence_table(stage: Stage, picture: NDArray[np.uint8], clips: list[Clip], seconds: float = 3.0) -> Table:
    """Table 5: the mouth in silence, against what real mouths do where their clips are silent."""
    table = Table(
        title="5. Lips in silence",
        columns=["sound", "p95 - p5", "median gap"],
        note="Eye distances. The truth is every stretch of 8 frames or more without speech in the real clips.",
    )
    ranges, gaps = [], []
    for clip in clips:
        silent = ~speech_windows(clip.mel)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], silent, [False]]).astype(int)))
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            if stop - start >= 8:
                track = clip.lips.gap[start + 5 : stop + 5]  # windows are centred five frames on
                ranges.append(lip_range(track))
                gaps.append(float(np.median(track)))
    truth = float(np.median(ranges)) if ranges else None
    table.add(f"real clips ({len(ranges)} stretches)", truth, float(np.median(gaps)) if gaps else None)
    identity, hint = stage.subject(picture)
    rng = np.random.default_rng(0)
    count = round(seconds * 16000)
    for name, level in (("digital zero", 0.0), ("-60 dBFS noise", 1e-3), ("-40 dBFS noise", 1e-2)):
        sound = (rng.standard_normal(count) * level).astype(np.float32)
        gap = _gap(stage, identity, hint, sound, RenderControls())[FPS // 2 :]
        measured, middle = lip_range(gap), float(np.median(gap))
        table.add(name, measured, middle)
        if name != "-40 dBFS noise":
            limit = None if truth is None else measured <= 1.5 * truth
            table.gate(f"{name}: range at most 1.5 of the truth's", measured, limit)
            table.gate(f"{name}: closed (gap at most {CLOSED})", middle, middle <= CLOSED)
    return table
