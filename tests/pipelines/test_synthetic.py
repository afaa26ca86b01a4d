import json
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.synthetic import MOTION, Person, draw_face, random_phones, synthesize_clip, write_clip


def test_the_same_seed_gives_the_same_clip_and_another_does_not() -> None:
    first, again, other = (synthesize_clip(seed, 1.2, size=64) for seed in (1, 1, 2))
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.audio, again.audio)
    assert not np.array_equal(first.frames, other.frames)
    assert not np.array_equal(first.audio, other.audio)


@pytest.mark.parametrize(
    ("seconds", "fps", "rate"), [(1.0, 25, 16_000), (0.99, 30, 22_050), (0.5, 24, 8_000)]
)
def test_shapes_follow_the_audio(seconds: float, fps: int, rate: int) -> None:
    clip = synthesize_clip(0, seconds, fps, 64, rate)
    samples = round(seconds * rate)
    assert clip.audio.shape == (samples,)
    assert len(clip.frames) == int(samples * fps / rate + 0.5)
    assert clip.frames.shape[1:] == (64, 64, 3)
    assert clip.motion.shape == (len(clip.frames), len(MOTION))
    assert clip.lips.shape == (len(clip.frames), 2)


def test_opening_the_jaw_changes_the_mouth_and_little_else() -> None:
    person = Person.draw(np.random.default_rng(3))
    rest = np.zeros(len(MOTION))
    rest[MOTION.index("scale")] = 1.0
    speaking = rest.copy()
    speaking[MOTION.index("jaw")] = 1.0
    change = np.abs(draw_face(person, speaking, 128).astype(int) - draw_face(person, rest, 128)).sum(-1)
    assert change[72:90, 52:76].mean() > 20
    assert change[:50].sum() < 0.1 * change.sum()


@pytest.mark.parametrize("column", ["yaw", "pitch", "roll", "shift_x", "scale", "rounding", "blink"])
def test_every_motion_is_visible(column: str) -> None:
    person = Person.draw(np.random.default_rng(4))
    rest = np.zeros(len(MOTION))
    rest[[MOTION.index("scale"), MOTION.index("jaw")]] = (1.0, 0.5)
    moved = rest.copy()
    moved[MOTION.index(column)] += {"yaw": 15, "pitch": 15, "roll": 15, "blink": 1}.get(column, 0.2)
    assert np.abs(draw_face(person, moved, 96).astype(int) - draw_face(person, rest, 96)).max() > 40


def test_lips_are_shut_while_a_bilabial_is() -> None:
    clip = synthesize_clip(0, 1.0, size=64, phones=[("a", 0.4), ("m", 0.2), ("a", 0.4)])
    assert clip.lips[11:14, 0].max() == 0.0
    assert clip.lips[5, 0] > 0.9
    assert clip.motion[12, MOTION.index("jaw")] == 0.0


def test_random_phones_fill_the_time() -> None:
    phones = random_phones(np.random.default_rng(0), 5.0)
    assert sum(seconds for _, seconds in phones) >= 5.0
    assert (phones[0][0], phones[-1][0]) == ("sil", "sil")


def test_a_written_clip_reads_back(tmp_path: Path) -> None:
    clip = synthesize_clip(5, 0.8, size=64)
    video = write_clip(tmp_path, "clip", clip)
    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == len(clip.frames)
        assert container.streams.audio
    record = json.loads((tmp_path / "clip.json").read_text())
    assert np.allclose(record["motion"], clip.motion, atol=1e-4)
    assert record["phones"][0][0] == clip.phones[0].phone
    assert (tmp_path / "clip.wav").stat().st_size == 44 + 2 * len(clip.audio)
