"""Every bad input of a render, through the command line: one line that names it, the exit code, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import struct
import wave
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infra import cli


@dataclass
class Render:
    """Runs `ifmdm render` in a folder of its own."""

    folder: Path
    bundle: Path
    portrait: Path
    capsys: pytest.CaptureFixture[str]
    out: str = field(default="", init=False)
    err: str = field(default="", init=False)

    def __call__(
        self,
        *options: str,
        photo: Path | None = None,
        audio: Path | None = None,
        output: Path | None = None,
        model: Path | None = None,
    ) -> int:
        output = output or self.folder / "results" / "out.mp4"
        if output.is_relative_to(self.folder / "results"):
            (self.folder / "results").mkdir(exist_ok=True)
        arguments = [str(photo or self.portrait), str(audio or self.speech()), "-o", str(output)]
        with pytest.raises(SystemExit) as end:
            cli.main(["render", *arguments, "--model", str(model or self.bundle), "--steps", "2", *options])
        self.out, self.err = self.capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code

    def speech(self) -> Path:
        """0.6 s of a tone that comes and goes."""
        path = self.folder / "speech.wav"
        if not path.exists():
            t = np.arange(9_600) / 16_000
            write_wav(path, 0.3 * np.sin(2 * np.pi * 180 * t) * np.sin(2 * np.pi * 3 * t))
        return path

    def refused(self, named: Path | str, *says: str) -> None:
        """The last run printed one line that says these things, and left no file."""
        assert self.out == ""
        assert self.err.startswith("ifmdm: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        assert str(named) in self.err
        for text in says:
            assert text in self.err, self.err
        results = self.folder / "results"
        assert not results.exists() or list(results.iterdir()) == []


@pytest.fixture
def render(tmp_path: Path, tiny_bundle: Path, portrait: Path, capsys: pytest.CaptureFixture[str]) -> Render:
    return Render(tmp_path, tiny_bundle, portrait, capsys)


def write_wav(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def write_float_wav(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    data = samples.astype("<f4").tobytes()
    header = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 3, 1, rate, 4 * rate, 4, 32)
    body = header + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def write_png_header(path: Path, width: int, height: int) -> Path:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    return path


# Photos


def test_a_photo_that_is_not_there(render: Render, tmp_path: Path) -> None:
    assert render(photo=tmp_path / "absent.jpg") == 3
    render.refused("absent.jpg")


def test_a_photo_that_is_no_picture(render: Render, tmp_path: Path) -> None:
    path = tmp_path / "notes.jpg"
    path.write_text("dear diary\n" * 100)
    assert render(photo=path) == 2
    render.refused(path, "not a picture")


def test_an_empty_photo(render: Render, tmp_path: Path) -> None:
    path = tmp_path / "empty.png"
    path.touch()
    assert render(photo=path) == 2
    render.refused(path, "empty")


@pytest.mark.parametrize("keep", [0.05, 0.5, 0.95])
def test_a_truncated_photo(render: Render, tmp_path: Path, portrait: Path, keep: float) -> None:
    data = portrait.read_bytes()
    path = tmp_path / "cut.jpg"
    path.write_bytes(data[: int(len(data) * keep)])
    assert render(photo=path) == 2
    render.refused(path)


def test_a_corrupt_photo(render: Render, tmp_path: Path, portrait: Path) -> None:
    path = tmp_path / "corrupt.png"
    Image.open(portrait).resize((128, 128)).save(path)
    data = bytearray(path.read_bytes())
    data[200:4000] = bytes(3800)
    path.write_bytes(data)
    assert render(photo=path) == 2
    render.refused(path)


def test_a_tiny_photo(render: Render, tmp_path: Path, portrait: Path) -> None:
    path = tmp_path / "tiny.png"
    Image.open(portrait).resize((32, 32)).save(path)
    assert render(photo=path) == 2
    render.refused(path, "32x32")


def test_a_gigapixel_photo_is_refused_before_it_is_decoded(render: Render, tmp_path: Path) -> None:
    path = write_png_header(tmp_path / "wall.png", 60_000, 60_000)
    assert render(photo=path) == 2
    render.refused(path, "pixels")


def test_a_photo_without_a_face_offers_the_way_out(render: Render, tmp_path: Path) -> None:
    path = tmp_path / "sky.png"
    Image.fromarray(np.full((300, 300, 3), (120, 160, 220), np.uint8)).save(path)
    assert render(photo=path) == 2
    render.refused(path, "no face", "--face none", "x,y,w,h")
    assert render("--face", "none", photo=path) == 0
    assert render("--face", "50,50,100,100", photo=path) == 0


def test_of_several_faces_the_largest_is_taken_and_said_so(
    render: Render, tmp_path: Path, portrait: Path
) -> None:
    photo = Image.open(portrait)
    wide = Image.new("RGB", (1000, 512), "white")
    wide.paste(photo, (0, 0))
    wide.paste(photo.resize((360, 360)), (600, 100))
    path = tmp_path / "two.png"
    wide.save(path)
    assert render(photo=path) == 0
    assert "largest" in render.err
    assert "--face" in render.err
    assert render("--face", "1", photo=path) == 0
    (tmp_path / "results" / "out.mp4").unlink()
    assert render("--face", "7", photo=path) == 2
    render.refused(path)


def test_a_face_box_outside_the_photo(render: Render) -> None:
    assert render("--face", "5000,5000,100,100") == 2
    render.refused(render.portrait)


# Audio


def test_audio_that_is_not_there(render: Render, tmp_path: Path) -> None:
    assert render(audio=tmp_path / "absent.wav") == 3
    render.refused("absent.wav")


def test_audio_that_is_no_audio(render: Render, portrait: Path) -> None:
    assert render(audio=portrait) == 2
    render.refused(portrait)


@pytest.mark.parametrize("name", ["list.m3u8", "files.txt"])
def test_a_playlist_cannot_name_other_files(render: Render, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    secret = write_wav(tmp_path / "other.wav", np.sin(np.arange(16_000) / 9) * 0.3)
    path.write_text(
        f"#EXTM3U\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n"
        if name == "list.m3u8"
        else f"ffconcat version 1.0\nfile {secret}\n"
    )
    assert render(audio=path) == 2
    render.refused(path)


def test_empty_audio(render: Render, tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    path.touch()
    assert render(audio=path) == 2
    render.refused(path, "empty")


def test_audio_of_zero_length(render: Render, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "nothing.wav", np.zeros(0))
    assert render(audio=path) == 2
    render.refused(path)


def test_silent_audio(render: Render, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "silent.wav", np.zeros(16_000))
    assert render(audio=path) == 2
    render.refused(path, "silent")


def test_audio_with_nan_samples(render: Render, tmp_path: Path) -> None:
    samples = np.sin(np.arange(16_000) / 9) * 0.3
    samples[5_000:5_100] = np.nan
    path = write_float_wav(tmp_path / "nan.wav", samples)
    assert render(audio=path) == 2
    render.refused(path)


def test_corrupt_audio(render: Render, tmp_path: Path) -> None:
    path = tmp_path / "corrupt.mp3"
    path.write_bytes(b"ID3\x04\0\0\0\0\0\0" + np.random.default_rng(0).bytes(5_000))
    assert render(audio=path) == 2
    render.refused(path)


def test_truncated_audio(render: Render, tmp_path: Path) -> None:
    """A file that declares more than it holds; a WAV may be a recording that was cut off, an MP4 cannot be."""
    whole = tmp_path / "whole.mp4"
    assert render(output=whole) == 0
    data = whole.read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: len(data) * 2 // 3])
    assert render(audio=path) == 2
    render.refused(path)


# Output and options


def test_an_output_folder_that_is_not_there(render: Render, tmp_path: Path) -> None:
    output = tmp_path / "no" / "such" / "out.mp4"
    assert render(output=output) == 2
    render.refused(output, "mkdir -p")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_without_permission(render: Render, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert render(output=locked / "out.mp4") == 4
    render.refused(locked / "out.mp4")


def test_an_output_that_can_never_be_written(render: Render) -> None:
    output = Path("/proc/ifmdm/out.mp4")
    assert render(output=output) in (2, 4)
    render.refused(output)


def test_an_output_that_is_a_folder(render: Render, tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    assert render(output=tmp_path / "folder.mp4") == 2
    render.refused("folder.mp4")


def test_an_output_of_another_kind(render: Render, tmp_path: Path) -> None:
    assert render(output=tmp_path / "out.gif") == 2
    render.refused("out.gif", ".mp4")


def test_an_output_that_is_an_input(render: Render, tmp_path: Path) -> None:
    path = tmp_path / "speech.mp4"
    shutil.copy(render.speech(), path)
    before = path.read_bytes()
    assert render(audio=path, output=path) == 2
    render.refused(path)
    assert path.read_bytes() == before


def test_an_output_that_was_there_survives_a_failure(render: Render, tmp_path: Path) -> None:
    output = tmp_path / "kept.mp4"
    output.write_bytes(b"yesterday's")
    assert render(audio=write_wav(tmp_path / "silent.wav", np.zeros(16_000)), output=output) == 2
    assert output.read_bytes() == b"yesterday's"
    assert [p.name for p in tmp_path.glob("*kept*")] == ["kept.mp4"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--stesp", "3"], "did you mean '--steps'"),
        (["--pose", "sideways"], "pose is 'sideways'"),
        (["--intensity", "1.5"], "intensity is"),
        (["--sampler", "euler"], "'ddim', 'dpm++' or 'ddpm'"),
        (["--size", "7"], "size is 7"),
        (["--fps", "0"], "fps is 0"),
        (["--face", "1,2"], "x,y,w,h"),
        (["--precision", "int4"], "fp32"),
        (["--device", "tpu9"], "tpu9"),
    ],
)
def test_options_that_make_no_sense(render: Render, options: list[str], says: str) -> None:
    assert render(*options) == 2
    render.refused(options[0].removeprefix("--")[:3], says)


# Bundles


@pytest.fixture
def broken(render: Render, tmp_path: Path) -> Callable[[Callable[[Path], object]], int]:
    """Copies the bundle, breaks the copy, renders with it."""

    def run(damage: Callable[[Path], object]) -> int:
        folder = tmp_path / "broken"
        shutil.copytree(render.bundle, folder)
        damage(folder)
        return render(model=folder)

    return run


def test_a_bundle_that_is_not_there(render: Render, tmp_path: Path) -> None:
    assert render(model=tmp_path / "absent") == 3
    render.refused("absent")


def test_a_bundle_with_a_wrong_digest_quotes_both(broken: Callable[..., int], render: Render) -> None:
    def flip(folder: Path) -> None:
        path = folder / "motion.safetensors"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    assert broken(flip) == 5
    recorded = json.loads((render.bundle / "bundle.json").read_text())["sha256"]["motion.safetensors"]
    render.refused("motion.safetensors", recorded)


@pytest.mark.parametrize("name", ["extra.pkl", "speech/pytorch_model.bin", "notes.txt"])
def test_a_bundle_with_a_pickle_in_it(broken: Callable[..., int], render: Render, name: str) -> None:
    assert broken(lambda folder: (folder / name).write_bytes(b"\x80\x04K\x01.")) == 2
    render.refused(name, "pickle")


def test_a_bundle_of_a_later_version(broken: Callable[..., int], render: Render) -> None:
    def bump(folder: Path) -> None:
        record = json.loads((folder / "bundle.json").read_text())
        (folder / "bundle.json").write_text(json.dumps(record | {"format": 99}))

    assert broken(bump) == 6
    render.refused("99")


def test_a_bundle_that_lacks_a_part(broken: Callable[..., int], render: Render) -> None:
    assert broken(lambda folder: (folder / "motion.safetensors").unlink()) == 2
    render.refused("motion.safetensors")
