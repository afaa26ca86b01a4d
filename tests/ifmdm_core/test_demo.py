from __future__ import annotations

import shutil
import wave
from pathlib import Path

import numpy as np
import pytest

from ifmdm_core.commands import demo
from ifmdm_core.media.audio import read_audio
from ifmdm_core.media.image import read_image
from infra import cli


def test_the_bundled_samples_can_be_read() -> None:
    assert read_image(demo.SAMPLES / "astronaut.jpg").shape == (512, 512, 3)
    speech = read_audio(demo.SAMPLES / "speech.flac")
    assert 6 < speech.duration < 12
    credits = (demo.SAMPLES / "README.md").read_text()
    assert "public domain" in credits
    assert "CC BY 4.0" in credits


def test_the_demo_renders_and_says_where(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = tmp_path / "samples"
    samples.mkdir()
    shutil.copy(demo.SAMPLES / "astronaut.jpg", samples)
    with wave.open(
        str(samples / "speech.flac"), "wb"
    ) as file:  # half a second; what it is decides, not its name
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((np.sin(np.arange(8_000) / 9) * 9_000).astype("<i2").tobytes())
    monkeypatch.setattr(demo, "SAMPLES", samples)
    with pytest.raises(SystemExit) as end:
        cli.main(["demo", "render", "--out", str(tmp_path / "a" / "out"), "--model", str(tiny_bundle)])
    assert end.value.code == 0
    video = tmp_path / "a" / "out" / "demo.mp4"
    assert video.stat().st_size > 1_000
    assert str(video) in capsys.readouterr().out


def test_training_the_demo_shows_its_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--manifest",
        str(tmp_path / "m.csv"),
        "--landmarker",
        str(tmp_path / "l.task"),
        "--work",
        str(tmp_path),
    ]
    with pytest.raises(SystemExit) as end:
        cli.main(["demo", "train", *options, "--dry-run"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert [
        word for word in ("labels:", "crops:", "speech encoder:", "stage 2:", "bundle:") if word not in out
    ] == []


def test_an_output_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as end:
        cli.main(["demo", "render", "--out", str(tmp_path / "file" / "out")])
    assert end.value.code == 4
    assert capsys.readouterr().err.count("\n") == 1
