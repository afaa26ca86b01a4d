from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from ifmdm_core.errors import BadInput, Forbidden, IfmdmError
from ifmdm_core.media.audio import audio_from_samples
from ifmdm_core.media.video_writer import VideoWriter

from .conftest import clicks


def noise(num_frames: int, width: int = 64, height: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_frames, height, width, 3), np.uint8)


def boxes(path: Path) -> list[bytes]:
    """The names of an MP4's outermost boxes, in order."""
    data, at, found = path.read_bytes(), 0, []
    while at + 8 <= len(data):
        found.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4], "big")
    return found


@pytest.mark.parametrize("num_frames", [1, 2, 7, 33])
@pytest.mark.parametrize("fps", [25, 30, Fraction(30000, 1001)])
def test_as_many_frames_come_out_as_went_in(tmp_path: Path, num_frames: int, fps: float) -> None:
    path = tmp_path / "v.mp4"
    with VideoWriter(path, (64, 64), fps) as video:
        for frame in noise(num_frames):
            video.write(frame)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.frames == num_frames == len(list(container.decode(stream)))
        assert (
            stream.average_rate == pytest.approx(Fraction(fps).limit_denominator(100_000)) or num_frames == 1
        )


def test_the_file_is_what_players_want(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    tags = {"comment": "synthetic", "ifmdm_seed": "7"}
    with VideoWriter(path, (64, 48), 25, audio_from_samples(clicks(22050, 2), 22050), metadata=tags) as video:
        video.write(noise(50, 64, 48))
    order = boxes(path)
    assert order.index(b"moov") < order.index(b"mdat")  # faststart
    with av.open(str(path)) as container:
        video_stream, audio_stream = container.streams.video[0], container.streams.audio[0]
        assert (video_stream.codec_context.name, video_stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (audio_stream.codec_context.name, audio_stream.codec_context.sample_rate) == ("aac", 48000)
        assert audio_stream.codec_context.layout.nb_channels == 2
        assert {key: container.metadata.get(key) for key in tags} == tags
        assert abs(float(audio_stream.duration * audio_stream.time_base) - 2.0) < 0.04
    assert [file.name for file in tmp_path.iterdir()] == ["v.mp4"]


@pytest.mark.parametrize("name", ["a:b.mp4", "-x.mp4", "50%d off.mp4", "pipe:1.mp4", "größe 'x'.mp4"])
def test_any_file_name_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with VideoWriter(name, (64, 64), 25) as video:
        video.write(noise(2))
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_odd_sizes_are_padded(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "v.mp4", (65, 71), 25) as video:
        video.write(noise(3, 65, 71))
    with av.open(str(tmp_path / "v.mp4")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (66, 72)


def write(path: Path, size: tuple[int, int], batches: list[np.ndarray], **options: object) -> None:
    with VideoWriter(path, size, 25, **options) as video:
        for batch in batches:
            video.write(batch)


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_nothing_and_keeps_what_was_there(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(b"old")

    def fail() -> None:
        with VideoWriter(path, (64, 64), 25) as video:
            video.write(noise(5))
            raise failure

    with pytest.raises(failure):
        fail()
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["v.mp4"]


def test_wrong_frames_are_our_fault(tmp_path: Path) -> None:
    for frames in (noise(1, 32, 64), noise(1).astype(np.float32)):
        with pytest.raises(ValueError, match=r"\[n, 64, 64, 3\]"):
            write(tmp_path / "v.mp4", (64, 64), [frames])
    with pytest.raises(ValueError, match="no frames"):
        write(tmp_path / "v.mp4", (64, 64), [])
    assert list(tmp_path.iterdir()) == []


def test_ffmpeg_that_dies_is_reported_and_does_not_block(tmp_path: Path) -> None:
    audio = audio_from_samples(clicks(16000), 16000)
    audio.native.path.unlink()  # ffmpeg cannot open its second input
    with pytest.raises(IfmdmError, match=r"v\.mp4: ffmpeg could not write it \(.+\)"):
        write(tmp_path / "v.mp4", (256, 256), [noise(8, 256, 256)] * 20, audio=audio)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_outputs(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no/v\.mp4: its folder does not exist; create it: mkdir -p"):
        write(tmp_path / "no" / "v.mp4", (64, 64), [])
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(BadInput, match=r"folder\.mp4: is a folder"):
        write(tmp_path / "folder.mp4", (64, 64), [])
    with pytest.raises(BadInput, match=r"v\.gif: cannot write this kind of video; name it \.mp4"):
        write(tmp_path / "v.gif", (64, 64), [])
    with pytest.raises((Forbidden, BadInput), match=r"cannot be written|folder does not exist"):
        write(Path("/proc/v.mp4"), (64, 64), [])
