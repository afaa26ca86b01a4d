"""The decoder in its child: the same frames and sound as in process, and whatever happens to the child is survived."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.media.audio import audio_from_samples
from ifmdm_core.media.decoder_process import DecoderCrash, DecoderProcess, frame_scale
from ifmdm_core.media.video import read_frames, read_video_audio
from ifmdm_core.media.video_writer import VideoWriter
from tests.ifmdm_core.media.conftest import clicks

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")


def write(path: Path, count: int = 50, size: tuple[int, int] = (96, 64), sound: bool = True) -> Path:
    audio = audio_from_samples(clicks(16_000), 16_000) if sound else None
    with VideoWriter(path, size, 25, audio) as writer:
        for k in range(count):
            writer.write(np.full((size[1], size[0], 3), 4 * k % 256, np.uint8))
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("videos") / "a b.mp4")


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More frames than the ring has slots, so the child is still at work after the first frame."""
    return write(tmp_path_factory.mktemp("videos") / "long.mp4", 400, (640, 480), sound=False)


@pytest.fixture
def decoder():
    with DecoderProcess() as decoder:
        yield decoder


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return status != "Z"


def test_frames_and_sound_are_those_of_the_file(decoder: DecoderProcess, video: Path) -> None:
    info = decoder.probe(video)
    assert (info.width, info.height, info.has_audio) == (96, 64, True)
    assert np.array_equal(np.stack(list(decoder.frames(video, 25))), np.stack(list(read_frames(video))))
    part = list(decoder.frames(video, 25, 0.4, 1.2))
    assert np.array_equal(np.stack(part), np.stack(list(read_frames(video)))[10:30])
    audio = read_video_audio(video)
    assert audio is not None
    sound = decoder.sound(video, 0.5, 1.5)
    assert sound is not None
    assert np.array_equal(sound, audio.samples[8000:24_000])
    assert decoder.sound(video, 100.0, 101.0).size == 0


def test_many_frames_pass_through_few_slots(decoder: DecoderProcess, long_video: Path) -> None:
    levels = [int(frame.mean()) for frame in decoder.frames(long_video, 25)]
    assert len(levels) == 400
    assert np.abs(np.array(levels) - 4 * np.arange(400) % 256).max() <= 3


def test_a_video_without_sound_has_none(decoder: DecoderProcess, long_video: Path) -> None:
    assert decoder.sound(long_video, 0, 1) is None


def test_large_frames_are_scaled_down(decoder: DecoderProcess, tmp_path: Path) -> None:
    path = write(tmp_path / "large.mp4", 3, (3840, 320), sound=False)
    frames = list(decoder.frames(path, 25))
    assert frame_scale(decoder.probe(path)) == 0.5
    assert frames[0].shape == (160, 1920, 3)


def test_errors_of_the_file_come_through_and_the_child_stays(
    decoder: DecoderProcess, video: Path, tmp_path: Path
) -> None:
    decoder.probe(video)
    child = decoder.pid
    with pytest.raises(NotFound, match=r"missing\.mp4"):
        decoder.probe(tmp_path / "missing.mp4")
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(BadInput, match=r"text\.mp4"):
        list(decoder.frames(text, 25))
    assert len(list(decoder.frames(video, 25))) == 50
    assert decoder.pid == child


def test_damage_in_mid_stream_comes_through_behind_the_frames(
    decoder: DecoderProcess, long_video: Path, tmp_path: Path
) -> None:
    import av

    cut = tmp_path / "cut.mkv"
    with av.open(str(long_video)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data = bytearray(cut.read_bytes())
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadInput, match=r"cut\.mkv"):
        list(decoder.frames(cut, 25))
    assert len(list(decoder.frames(long_video, 25, 0, 1))) == 25


def test_a_killed_child_is_an_error_of_that_video_only(decoder: DecoderProcess, long_video: Path) -> None:
    frames = decoder.frames(long_video, 25)
    next(frames)
    assert decoder.pid is not None
    os.kill(decoder.pid, signal.SIGKILL)
    with pytest.raises(DecoderCrash, match=r"long\.mp4.*SIGKILL"):
        list(frames)
    assert len(list(decoder.frames(long_video, 25, 0, 1))) == 25


def test_a_child_that_died_between_requests_is_replaced(decoder: DecoderProcess, video: Path) -> None:
    decoder.probe(video)
    child = decoder.pid
    assert child is not None
    os.kill(child, signal.SIGKILL)
    # its main thread may be a zombie while others still end: wait until the whole process can be reaped
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert decoder.probe(video).width == 96
    assert decoder.pid != child


def test_a_child_that_hangs_is_ended(long_video: Path) -> None:
    with DecoderProcess() as decoder:
        frames = decoder.frames(long_video, 25)
        next(frames)
        decoder.patience = 0.5
        child = decoder.pid
        assert child is not None
        os.kill(child, signal.SIGSTOP)
        with pytest.raises(DecoderCrash, match="no progress"):
            list(frames)
        assert not alive(child)


def test_frames_that_are_not_read_to_the_end_do_no_harm(decoder: DecoderProcess, long_video: Path) -> None:
    frames = decoder.frames(long_video, 25)
    first = next(frames)
    frames.close()
    assert np.array_equal(next(decoder.frames(long_video, 25)), first)


def test_the_child_is_replaced_after_so_many_videos(video: Path, long_video: Path) -> None:
    with DecoderProcess(recycle=2) as decoder:
        children = []
        for path in (video, video, long_video, video, long_video):
            decoder.probe(path)
            children.append(decoder.pid)
        assert children[0] == children[1] == children[2] != children[3] == children[4]
        assert children[0] is not None
        assert not alive(children[0])


def test_the_child_has_no_torch(decoder: DecoderProcess, video: Path) -> None:
    list(decoder.frames(video, 25))
    maps = Path(f"/proc/{decoder.pid}/maps")
    if not maps.exists():
        pytest.skip("no /proc")
    assert "libtorch" not in maps.read_text()


def test_the_child_goes_when_its_parent_is_killed(long_video: Path) -> None:
    code = (
        "import sys\n"
        "from ifmdm_core.media.decoder_process import DecoderProcess\n"
        "decoder = DecoderProcess()\n"
        "frames = decoder.frames(sys.argv[1], 25)\n"
        "next(frames)\n"
        "print(decoder.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(long_video)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 30
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(child)
