from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.media.audio import audio_from_samples, read_audio
from ifmdm_core.media.video import VideoWriter, probe_video, read_frames, read_video_audio

from .conftest import CLICKS, SECONDS, click_errors, clicks, ffmpeg

FLASHES = tuple(
    round(25 * time) for time in CLICKS[1:2]
)  # the click at 1.28 s falls on a frame's first instant


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 frames whose grey level is 4 times their number, with sound: clicks, and a white flash at 1.28 s."""
    path = tmp_path_factory.mktemp("video") / "counting.mp4"
    with VideoWriter(path, (96, 64), 25, audio_from_samples(clicks(44100, 2), 44100)) as video:
        video.write(counted())
    return path


def counted(num_frames: int = 50) -> np.ndarray:
    frames = np.zeros((num_frames, 64, 96, 3), np.uint8)
    frames[:] = (4 * np.arange(num_frames, dtype=np.uint8))[:, None, None, None]
    for flash in FLASHES:
        if flash < num_frames:
            frames[flash, :, 64:] = 255
    return frames


def numbers(frames: list[np.ndarray]) -> list[int]:
    return [round(float(frame[:, :48].mean()) / 4) for frame in frames]


def readers() -> list[str]:
    try:
        import decord  # noqa: F401
    except ImportError:
        return ["av"]
    return ["av", "decord"]


@pytest.mark.parametrize("reader", readers())
def test_every_frame_comes_back_once_and_in_order(counting: Path, reader: str) -> None:
    frames = list(read_frames(str(counting), reader=reader))
    assert numbers(frames) == list(range(50))
    assert frames[0].shape == (64, 96, 3)
    assert frames[0].dtype == np.uint8


@pytest.mark.parametrize("reader", readers())
@pytest.mark.parametrize("fps", [12.5, 30.0, 50.0])
def test_other_rates_take_the_nearest_frame(counting: Path, reader: str, fps: float) -> None:
    found = numbers(list(read_frames(str(counting), fps, reader=reader)))
    times = np.arange(len(found)) / fps
    assert abs(len(found) - 2 * fps) <= fps / 25
    assert np.abs(np.array(found) / 25 - times).max() <= 0.02 + 1e-6


@pytest.mark.parametrize("reader", readers())
def test_a_part_of_a_video(counting: Path, reader: str) -> None:
    assert numbers(list(read_frames(str(counting), start=0.4, end=0.8, reader=reader))) == list(range(10, 20))


def test_both_readers_agree(counting: Path) -> None:
    if len(readers()) < 2:
        pytest.skip("decord is not installed")
    for a, b in zip(read_frames(str(counting), reader="av"), read_frames(str(counting), reader="decord")):
        np.testing.assert_allclose(a.astype(int), b.astype(int), atol=2)


def test_what_decord_cannot_read_pyav_does(counting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ifmdm_core.media.video as video

    def broken(*_: object) -> object:
        yield np.zeros((64, 96, 3), np.uint8)
        raise RuntimeError("decord failed")

    monkeypatch.setattr(video, "_decord_frames", broken)
    assert numbers(list(read_frames(str(counting)))) == list(range(50))


def test_probe(counting: Path) -> None:
    info = probe_video(str(counting))
    assert (info.width, info.height, info.fps, info.num_frames, info.codec) == (96, 64, 25.0, 50, "h264")
    assert info.has_audio
    assert info.duration == pytest.approx(SECONDS)


def test_turned_videos_come_upright(counting: Path, tmp_path: Path) -> None:
    ffmpeg("-display_rotation", 90, "-i", counting, "-c", "copy", tmp_path / "turned.mp4")
    info = probe_video(str(tmp_path / "turned.mp4"))
    assert (info.width, info.height) == (64, 96)
    frame = list(read_frames(str(tmp_path / "turned.mp4")))[FLASHES[0]]
    assert frame.shape == (96, 64, 3)
    assert frame[:28].mean() > 240  # the flash was at the right; turned to the left it is above
    assert frame[40:].mean() < 200


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 1), (44100, 2), (48000, 2), (11127, 1)])
def test_sound_and_picture_stay_together(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "v.mp4"
    with VideoWriter(path, (96, 64), 25, audio_from_samples(clicks(rate, channels), rate)) as video:
        video.write(counted())
    for sound in (read_audio(path), read_video_audio(str(path))):
        assert sound is not None
        assert np.abs(click_errors(sound.samples, 16000)).max() < 10  # milliseconds after an AAC round trip
        assert abs(sound.duration - SECONDS) < 0.04
    bright = [k for k, frame in enumerate(read_frames(str(path))) if frame[:, 64:].mean() > 240]
    assert bright == list(FLASHES)


def test_sound_that_begins_before_or_after_the_picture(counting: Path, tmp_path: Path) -> None:
    for delay in (0.3, -0.3):
        path = tmp_path / f"{delay}.mkv"
        ffmpeg(
            "-i",
            counting,
            "-itsoffset",
            delay,
            "-i",
            counting,
            "-map",
            "0:v",
            "-map",
            "1:a",
            "-c",
            "copy",
            path,
        )
        sound = read_video_audio(str(path))
        assert sound is not None
        moved = round(abs(delay) * 16000)
        shifted = sound.samples[moved:] if delay > 0 else np.pad(sound.samples, (moved, 0))
        assert np.abs(click_errors(shifted, 16000)).max() < 10


def test_a_video_without_sound_has_none(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "mute.mp4", (96, 64), 25) as video:
        video.write(counted(5))
    assert read_video_audio(str(tmp_path / "mute.mp4")) is None
    assert not probe_video(str(tmp_path / "mute.mp4")).has_audio


@pytest.mark.parametrize("reader", ["auto", "av"])
def test_a_truncated_faststart_file_is_refused(counting: Path, tmp_path: Path, reader: str) -> None:
    whole = counting.read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: int(0.6 * len(whole))])
    with pytest.raises(BadInput, match=r"cut\.mp4: damaged or truncated"):
        list(read_frames(str(path), reader=reader))


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.mp4"):
        probe_video(str(tmp_path / "none.mp4"))
    (tmp_path / "text.mp4").write_text("no video " * 100)
    with pytest.raises(BadInput, match=r"text\.mp4: is not video"):
        probe_video(str(tmp_path / "text.mp4"))
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.5", tmp_path / "sound.wav")
    with pytest.raises(BadInput, match=r"sound\.wav: has no picture"):
        list(read_frames(str(tmp_path / "sound.wav")))


def test_written_colours_are_tagged_and_come_back(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (12, 3))
    frames = np.broadcast_to(colours[:, None, None], (12, 64, 64, 3)).astype(np.uint8)
    with VideoWriter(tmp_path / "c.mp4", (64, 64), 25, crf=10) as video:
        video.write(frames)
    for reader in readers():
        for frame, colour in zip(read_frames(str(tmp_path / "c.mp4"), reader=reader), colours):
            assert np.abs(frame.reshape(-1, 3).mean(0) - colour).max() < 5
    with av.open(str(tmp_path / "c.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (int(context.colorspace), context.pix_fmt) == (1, "yuv420p")
