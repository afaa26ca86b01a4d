from __future__ import annotations

import re

import numpy as np

from serve.studio.curves import BOTTOM, OPENINGS, POINTS, TOP, WIDTH, curves, envelope


def _lines(drawing: str, kind: str) -> list[np.ndarray]:
    """The points [n, 2] of the curves of one class."""
    found = re.findall(rf'<polyline points="([^"]*)" class="{kind}"', drawing)
    return [np.array([pair.split(",") for pair in points.split()], float).reshape(-1, 2) for points in found]


def test_the_envelope_is_the_loudest_of_each_span() -> None:
    samples = np.zeros(1000, np.float32)
    samples[420] = -0.5
    samples[990] = 0.25
    heard = envelope(samples, bins=10)
    assert heard.tolist() == [0, 0, 0, 0, 0.5, 0, 0, 0, 0, 0.25]


def test_speech_shorter_than_the_envelope_is_drawn_too() -> None:
    assert envelope(np.ones(3, np.float32), bins=10).shape == (10,)
    assert envelope(np.ones(3, np.float32), bins=10).max() == 1


def test_curves_reach_as_far_as_frames_are_there() -> None:
    motion = np.zeros((50, 20), np.float32)
    drawing = curves(np.ones(10, np.float32), motion, np.zeros(50, np.float32), num_frames=101, fps=25)
    lines = _lines(drawing, "motion")
    assert len(lines) == 20
    assert all(line[0, 0] == 0 and line[-1, 0] == WIDTH * 49 / 100 for line in lines)
    assert 'data-seconds="4.040"' in drawing


def test_values_have_their_place() -> None:
    motion = np.zeros((3, 20), np.float32)
    motion[:, 0] = 1, 0, -1
    opening = np.array([OPENINGS[1], 99, OPENINGS[0]], np.float32)
    drawing = curves(np.ones(10, np.float32), motion, opening, 3, 25)
    assert _lines(drawing, "motion")[0][:, 1].tolist() == [TOP + 10, TOP + 10 + BOTTOM / 2, TOP + 10 + BOTTOM]
    assert _lines(drawing, "opening")[0][:, 1].tolist() == [0, 0, TOP]  # what is beyond is at the edge


def test_long_videos_are_thinned_out_and_keep_their_ends() -> None:
    count = 45_000
    motion = np.zeros((count, 20), np.float32)
    motion[-1] = 1
    drawing = curves(np.ones(500, np.float32), motion, np.zeros(count, np.float32), count, 25)
    line = _lines(drawing, "motion")[0]
    assert len(line) <= POINTS
    assert line[-1].tolist() == [WIDTH, TOP + 10]
    assert len(drawing) < 200_000


def test_nothing_rendered_yet_is_drawn_as_speech_alone() -> None:
    drawing = curves(np.ones(10, np.float32), np.zeros((0, 20), np.float32), np.zeros(0, np.float32), 25, 25)
    assert '<polygon points="0.0,' in drawing
    assert all(len(line) == 0 for line in _lines(drawing, "motion"))
