"""What was heard and what moves, as one drawing on one time axis: waveform with mouth opening, motion below."""

from __future__ import annotations

import colorsys
import itertools

import numpy as np
from numpy.typing import NDArray

from serve.messages import Floats

WIDTH, TOP, BOTTOM = 1000, 120, 110
"""Units of the drawing: across, of the upper panel, of the lower one."""
OPENINGS = (-2.0, 7.0)
"""Mouth openings, in spreads of the training set, at the lower and upper edge."""
BINS = 500
POINTS = 250
"""Points of a curve at most: more than the eye tells apart here."""


def envelope(samples: Floats, bins: int = BINS) -> Floats:
    """Loudest sample (absolute) of each of `bins` equal spans of samples [n]; [bins] in [0, 1]."""
    edges = np.linspace(0, len(samples), bins + 1).astype(int)
    spans = (np.abs(samples[low : max(high, low + 1)]) for low, high in itertools.pairwise(edges))
    return np.array([span.max() if len(span) else 0.0 for span in spans], np.float32).clip(0, 1)


def curves(heard: Floats, motion: Floats, opening: Floats, num_frames: int, fps: int) -> str:
    """HTML of the drawing.

    Args:
        heard: [bins] envelope of the whole speech.
        motion: [n, 20] of the frames so far.
        opening: [n] of the same frames.
        num_frames: frames that there will be; the time axis covers them all.
    """
    scale = max(float(heard.max(initial=0)), 0.05)
    half = TOP / 2
    across = np.linspace(0, WIDTH, len(heard))
    loud = half * 0.95 * heard / scale
    outline = _points(np.r_[across, across[::-1]], np.r_[half - loud, (half + loud)[::-1]])
    low, high = OPENINGS
    lines = [
        f'<polygon points="{outline}" class="heard"/>',
        _line(TOP * (1 - (opening.clip(low, high) - low) / (high - low)), num_frames, 'class="opening"'),
    ]
    for number in range(motion.shape[1]):
        red, green, blue = (
            round(255 * part) for part in colorsys.hls_to_rgb(number / motion.shape[1], 0.5, 0.6)
        )
        down = TOP + 10 + BOTTOM * (0.5 - 0.5 * motion[:, number].clip(-1, 1))
        lines.append(_line(down, num_frames, f'class="motion" stroke="rgb({red},{green},{blue})"'))
    seconds = num_frames / fps
    return (
        f'<figure class="ifmdm-curves"><svg viewBox="0 0 {WIDTH} {TOP + 10 + BOTTOM}" preserveAspectRatio="none" '
        f'role="img" data-seconds="{seconds:.3f}" '
        f'aria-label="Speech, mouth opening and motion over {seconds:.1f} seconds">{"".join(lines)}'
        f'<line class="ifmdm-playhead" x1="0" x2="0" y1="0" y2="{TOP + 10 + BOTTOM}"/></svg>'
        f'<div class="axis"><span>0 s</span><span>{seconds / 2:.1f} s</span><span>{seconds:.1f} s</span></div>'
        '<figcaption><span class="key-opening">Mouth opening</span> over the speech; below it the '
        f"{motion.shape[1]} values of the face's motion.</figcaption></figure>"
    )


def _line(down: NDArray[np.floating], num_frames: int, attributes: str) -> str:
    """A curve of one value a frame, thinned out; the drawing's right edge is the last of `num_frames`."""
    frames = np.unique(np.linspace(0, len(down) - 1, min(len(down), POINTS)).round().astype(int))
    return f'<polyline points="{_points(frames * (WIDTH / max(1, num_frames - 1)), down[frames])}" {attributes}/>'


def _points(across: NDArray[np.floating], down: NDArray[np.floating]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across.tolist(), down.tolist()))
