"""What a rendered file is: frame count, codecs, sound, marks, the report; random weights, real files."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from ifmdm_core.provenance import read_tags
from ifmdm_core.speech_synthesis import syllables, synthesize_phones
from infra import cli


def _speech(path: Path, samples: int, rate: int) -> Path:
    import wave

    spoken, _ = synthesize_phones([*syllables("pa-ma-ba-li-tu", 0.3), ("a", samples / rate)], rate)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((spoken[:samples] * 30_000).astype("<i2").tobytes())
    return path


def _render(*arguments: object) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["render", *map(str, arguments)])
    assert end.value.code == 0


@pytest.mark.parametrize(
    ("samples", "rate", "fps"),
    [(16_000, 16_000, 25), (23_999, 22_050, 25), (44_100 + 883, 44_100, 30), (9_440, 16_000, 24)],
)
def test_frames_sound_and_codecs_are_exact(
    samples: int, rate: int, fps: int, tmp_path: Path, tiny_bundle: Path, portrait: Path
) -> None:
    speech = _speech(tmp_path / "speech.wav", samples, rate)
    output = tmp_path / "out.mp4"
    _render(
        portrait, speech, "-o", output, "--model", tiny_bundle, "--fps", fps, "--steps", 2, "--face", "none"
    )
    expected = int(Fraction(samples * fps, rate) + Fraction(1, 2))
    with av.open(str(output)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt, audio.codec_context.name) == (
            "h264",
            "yuv420p",
            "aac",
        )
        assert (video.width, video.height, video.average_rate) == (64, 64, fps)
        times = [frame.time for frame in container.decode(video=0)]
        container.seek(0)
        heard = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    assert len(times) == expected
    assert np.allclose(times, np.arange(expected) / fps, atol=1e-3)
    # The container counts whole AAC packets, so the sound may end up to one packet late.
    assert -1 / fps <= heard - samples / rate <= 1 / fps + 1024 / 44_100
    data = output.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "faststart: the index comes before the data"


def test_the_report_and_the_mark(
    tmp_path: Path, tiny_bundle: Path, portrait: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speech = _speech(tmp_path / "speech.wav", 16_000, 16_000)
    output = tmp_path / "out.mp4"
    options = ["--model", tiny_bundle, "--steps", 2, "--seed", 7, "--json", "--paste-back", "--pose", "hold"]
    _render(portrait, speech, "-o", output, *options)
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert out.count("\n") == 1
    assert err == "", "no progress bar in a pipe"
    assert (report["frames"], report["fps"], report["duration_s"]) == (25, 25, 1.0)
    assert (report["width"], report["height"]) == (512, 512), "pasted back into the whole photo"
    assert {"inputs", "identity", "speech", "motion", "decode", "finish", "encode"} <= set(report["seconds"])
    assert all(value >= 0 for value in report["seconds"].values())
    assert report["rendered_fps"] > 0
    record = read_tags(output)
    assert record is not None
    assert record["model"] == "tiny"
    assert (record["controls"]["seed"], record["controls"]["pose"]) == (7, "hold")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["out.mp4", "speech.wav"]


def test_the_same_seed_gives_the_same_pixels_and_another_does_not(
    tmp_path: Path, tiny_bundle: Path, portrait: Path
) -> None:
    speech = _speech(tmp_path / "speech.wav", 16_000, 16_000)
    frames = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        output = tmp_path / f"{name}.mp4"
        options = ["--steps", 2, "--seed", seed, "--face", "none", "--precision", "fp32"]
        _render(portrait, speech, "-o", output, "--model", tiny_bundle, *options)
        with av.open(str(output)) as container:
            frames.append(np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]))
    assert np.array_equal(frames[0], frames[1])
    assert not np.array_equal(frames[0], frames[2])


def test_an_interrupted_render_leaves_nothing(
    tmp_path: Path, tiny_bundle: Path, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ifmdm_core.portrait import Portrait

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Portrait, "finish", interrupt)
    speech = _speech(tmp_path / "speech.wav", 16_000, 16_000)
    with pytest.raises(SystemExit) as end:
        cli.main(
            [
                "render",
                str(portrait),
                str(speech),
                "-o",
                str(tmp_path / "out.mp4"),
                "--model",
                str(tiny_bundle),
            ]
        )
    assert end.value.code == 130
    assert [path.name for path in tmp_path.iterdir()] == ["speech.wav"]
