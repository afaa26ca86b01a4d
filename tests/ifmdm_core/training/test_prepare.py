"""From raw clips and labels to a training set: crops follow labels, sound follows pictures, bad clips are named."""

import csv
import wave

import cv2
import numpy as np
import pytest

from ifmdm_core.media.audio import read_audio
from ifmdm_core.media.video_writer import VideoWriter
from ifmdm_core.training.dataset import TrainingSet
from ifmdm_core.training.labels import label_path, read_labels, timed_frames
from ifmdm_core.training.prepare import decode_audio, prepare
from tests.ifmdm_core.training.conftest import draw, moving_mesh

CLICK = 0.4
"""Seconds."""


def film(path, frames, fps, tmp_path):
    """An MP4 of RGB frames with a click."""
    seconds = len(frames) / fps
    samples = np.zeros(round(seconds * 48_000), np.int16)
    samples[round(CLICK * 48_000) :][:48] = 20_000
    samples[::4800] += 300
    sound = tmp_path / "click.wav"
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    height, width = frames[0].shape[:2]
    with VideoWriter(path, (width, height), fps, read_audio(sound)) as writer:
        writer.write(np.stack(frames))


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Two labelled clips at 320 x 256, one of them with its face lost half of the time; one speech recording."""
    root = tmp_path_factory.mktemp("raw")
    (root / "labels").mkdir()
    rng, rows = np.random.default_rng(0), []
    for number, name in enumerate(("whole", "lost", "other")):
        file = f"train/news/{name}.mp4"
        mesh = moving_mesh(rng, 20)
        frames = [
            cv2.copyMakeBorder(draw(m, np.array([80, 150, 200])), 0, 0, 64, 0, cv2.BORDER_REPLICATE)
            for m in mesh
        ]
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        film(root / file, [f[..., ::-1] for f in frames], 25, root)
        points = mesh * 256 + (64, 0, 0)
        valid = np.arange(20) % 2 == 0 if name == "lost" else np.ones(20, bool)
        scores = rng.random((20, 52))
        np.savez(label_path(root / "labels", file), lm=points.astype(np.float32), bs=scores, valid=valid)
        rows.append([file, "train", "A", "talking", f"person {number}"])
    (root / "train/speech").mkdir()
    (root / "click.wav").rename(root / "train/speech/click.wav")
    rows.append(["train/speech/click.wav", "train", "A", "speech", ""])
    rows.append(["odd/none.mp4", "odd", "A", "talking", ""])
    with (root / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "split", "class", "kind", "speaker"], *rows])
    return root


@pytest.fixture(scope="module")
def prepared(raw):
    refused = prepare(raw / "manifest.csv", raw / "labels", raw / "set", workers=1)
    return TrainingSet(raw / "set"), refused


def test_a_clip_without_its_face_is_left_out_by_name(prepared):
    data, refused = prepared
    assert [c.name for c in data.clips] == ["train/news/whole.mp4", "train/news/other.mp4"]
    assert refused == {"train/news/lost.mp4": "a face in only 50% of its frames"}


def test_crops_hold_the_face_where_the_mesh_says(prepared):
    data, _ = prepared
    for clip in data.clips:
        for row in range(clip.first, clip.first + clip.num_frames, 5):
            x, y = (data.landmarks[row][[13, 14], :2].mean(0) * 256).astype(int)
            assert data.frame(row)[y, x].mean() < 90
            assert 0.4 < np.ptp(data.landmarks[row][:, 1]) < 0.75


def test_sound_lies_under_its_pictures(prepared):
    data, _ = prepared
    for clip in data.clips:
        sound = data.audio(clip)
        assert len(sound) == 20 * 640
        assert abs(np.abs(sound).argmax() / 16_000 - CLICK) < 0.010


def test_speech_without_pictures_comes_along(prepared):
    data, _ = prepared
    assert [s.name for s in data.speeches] == ["train/speech/click.wav"]


def test_a_faster_film_is_read_at_25_frames_a_second(tmp_path):
    frames = [np.full((64, 64, 3), 8 * i, np.uint8) for i in range(30)]
    film(tmp_path / "fast.mp4", frames, 30, tmp_path)
    levels = [frame.mean() for frame in timed_frames(tmp_path / "fast.mp4")]
    assert len(levels) == 25
    expected = [8 * round(k * 30 / 25) for k in range(25)]
    assert np.abs(np.array(levels) - expected).max() < 6
    sound, rate = decode_audio(tmp_path / "fast.mp4")
    assert rate == pytest.approx(30)
    assert abs(len(sound) / 16_000 - 1) < 0.1


def test_missing_labels_are_none(tmp_path):
    assert read_labels(tmp_path / "nothing.npz") is None
