"""The bundled model on clips whose lips follow their sound: shuffled speech must show, on Ray as in this process.

The real videos here are renders of the bundled model itself, so the judge has lips to read.
"""

import cv2
import numpy as np
import pytest

from ifmdm_core.controls import RenderControls
from ifmdm_core.media.audio import audio_from_samples, read_audio
from ifmdm_core.media.image import read_image
from ifmdm_core.media.video_writer import VideoWriter
from ifmdm_core.talking_head import TalkingHead
from pipelines.evaluate.run import evaluate
from pipelines.run.settings import RunSettings
from tests.pipelines.evaluate.conftest import SMALL
from tests.talking_videos import SAMPLES

FRAMES = 65
SIZE = 192


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spoken")
    head = TalkingHead.load("demo", device="cpu")
    photo = read_image(SAMPLES / "astronaut.jpg")
    speech = read_audio(SAMPLES / "speech.flac").samples
    for number, start in enumerate((0.0, 3.0, 6.0)):
        first = round(start * 16_000)
        sound = audio_from_samples(np.array(speech[first : first + FRAMES * 640]), 16_000)
        video = head.render(photo, sound, RenderControls(seed=40 + number, guidance=3.0))
        with VideoWriter(folder / f"s{number}.mp4", (SIZE, SIZE), 25, sound) as writer:
            for frame in video:
                writer.write(cv2.resize(frame, (SIZE, SIZE), interpolation=cv2.INTER_AREA))
    return folder


def test_shuffled_speech_falls_and_ray_gives_the_same_figures(spoken, tmp_path):
    options = {"landmarker": "own", "tables": (1,), "measuring": False, "notice": lambda text: None}
    effort = SMALL.__class__(**{**SMALL.__dict__, "clip_s": 2.6})
    report = evaluate("demo", spoken, out=tmp_path / "here", effort=effort, **options)
    found = {row.row: row.figures for row in report.rows}
    assert found["ours"]["lip_r"].value > found["shuffled speech"]["lip_r"].value + 0.1
    assert found["ours"]["S"].value > found["shuffled speech"]["S"].value
    gates = {gate.name: gate.met for gate in report.tables[0].gates}
    assert gates["shuffled speech falls in S"]
    assert gates["shuffled speech falls in lip r"]

    ray = RunSettings(workers=2, cpus=0.5)
    spread = evaluate("demo", spoken, out=tmp_path / "ray", effort=effort, ray=ray, **options)
    for row in spread.rows:
        for column in row.figures.keys() - {"fps"}:
            a, b = row.figures[column].value, found[row.row][column].value
            assert a == pytest.approx(b, rel=1e-3, abs=1e-3), (row.row, column)
