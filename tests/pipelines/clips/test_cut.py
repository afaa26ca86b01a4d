"""From a span of a real file to clips: what is kept, what it measures, what is refused, and always the same bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from ifmdm_core.media.audio import audio_from_samples
from ifmdm_core.media.clip_codec import decode_clip, decode_sound
from ifmdm_core.media.decoder_process import DecoderProcess
from ifmdm_core.media.face import find_faces
from ifmdm_core.media.video_writer import VideoWriter
from pipelines.clips import cut
from pipelines.clips.cut import CutClip, cut_span
from pipelines.dataset.parameters import ClipParameters
from tests.talking_videos import talking_frames, write_talking_video

PARAMETERS = ClipParameters()


@pytest.fixture(scope="module")
def decoder():
    with DecoderProcess() as decoder:
        yield decoder


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 frames of a talking head with sound."""
    return write_talking_video(tmp_path_factory.mktemp("talking") / "talking.mp4", 1, 2.4)


@pytest.fixture(scope="module")
def clip(talking: Path, decoder: DecoderProcess) -> CutClip:
    return only(talking, decoder)


def write(path: Path, frames: np.ndarray, fps: float = 25, samples: np.ndarray | None = None) -> Path:
    audio = audio_from_samples(samples, 16_000) if samples is not None else None
    with VideoWriter(path, frames.shape[2:0:-1], fps, audio, preset="ultrafast") as writer:
        writer.write(frames)
    return path


def only(path: Path, decoder: DecoderProcess, end: float = 60.0) -> CutClip:
    clips, faults = cut_span(path, 0.0, end, PARAMETERS, decoder)
    assert faults == []
    assert len(clips) == 1
    return clips[0]


def refusal(path: Path, decoder: DecoderProcess) -> tuple[str, str]:
    clips, faults = cut_span(path, 0.0, 60.0, PARAMETERS, decoder)
    assert clips == []
    (fault,) = faults
    assert str(path.parent) not in fault.detail
    return fault.reason, fault.detail


def digest(clips: list[CutClip]) -> str:
    return hashlib.sha256(repr(clips).encode()).hexdigest()


def test_a_talking_head_is_one_clip_with_its_face_in_the_middle(clip: CutClip) -> None:
    assert (clip.start, clip.end, clip.num_frames) == (0.0, 2.4, 60)
    frames = decode_clip(clip.video)
    assert frames.shape == (60, clip.size, clip.size, 3)
    face = find_faces(cv2.resize(frames[30], (192, 192), interpolation=cv2.INTER_CUBIC))[0]
    assert abs(face.box[0] + face.box[2] / 2 - 96) < 15
    assert abs(face.box[1] + face.box[3] / 2 - 96) < 15
    assert 1.5 < clip.crop_box[2] / clip.face_size < 2.1
    assert clip.size == clip.crop_box[2] // 2 * 2


def test_measures_are_in_their_ranges(clip: CutClip) -> None:
    assert 30 < clip.face_size < 80
    assert clip.sharpness > 10
    assert 0.2 < clip.brightness < 0.9
    assert 0.01 < clip.head_motion < 0.5
    assert clip.speech_share is not None
    assert 0 < clip.speech_share <= 1
    assert clip.loudness is not None
    assert -60 < clip.loudness < 0
    assert clip.av_offset is not None
    assert abs(clip.av_offset) <= 0.4
    assert len(clip.fingerprint) == 64


def test_sound_lies_under_its_pictures_to_the_sample(tmp_path: Path, decoder: DecoderProcess) -> None:
    samples = np.random.default_rng(0).normal(0, 0.003, 48_000).astype(np.float32)
    samples[20_000:20_050] = 0.7
    path = write(tmp_path / "click.mp4", talking_frames(2, 75), samples=samples)
    clips, _ = cut_span(path, 1.0, 3.0, PARAMETERS, decoder)
    assert clips[0].start == 1.0
    assert clips[0].audio is not None
    sound = decode_sound(clips[0].audio)
    assert len(sound) == clips[0].num_frames * 640
    assert abs(int(np.abs(sound).argmax()) - 4_000) < 160  # 10 ms


def test_the_same_span_gives_the_same_bytes_in_every_process(talking: Path, clip: CutClip) -> None:
    code = (
        "import sys, hashlib\n"
        "from pathlib import Path\n"
        "from ifmdm_core.media.decoder_process import DecoderProcess\n"
        "from pipelines.clips.cut import cut_span\n"
        "from pipelines.dataset.parameters import ClipParameters\n"
        "with DecoderProcess() as decoder:\n"
        "    clips, _ = cut_span(Path(sys.argv[1]), 0.0, 60.0, ClipParameters(), decoder)\n"
        "print(hashlib.sha256(repr(clips).encode()).hexdigest())"
    )
    # MALLOC_PERTURB_: what memory holds before it is written, where glibc allows.
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "MALLOC_PERTURB_": "170"}
    command = [sys.executable, "-c", code, str(talking)]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert done.stdout.decode().strip() == digest([clip])


def test_frames_that_are_decoded_twice_give_the_same(
    talking: Path, clip: CutClip, decoder: DecoderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cut, "KEPT", 1 << 20)
    assert only(talking, decoder) == clip


def test_long_runs_are_cut_into_equal_parts(talking: Path, decoder: DecoderProcess) -> None:
    parameters = ClipParameters(min_frames=10, max_frames=25)
    clips, _ = cut_span(talking, 0.0, 60.0, parameters, decoder)
    assert [c.num_frames for c in clips] == [20, 20, 20]
    assert [c.start for c in clips] == [0.0, 0.8, 1.6]


def test_clips_do_not_cross_cuts(tmp_path: Path, decoder: DecoderProcess) -> None:
    first = talking_frames(3, 35)
    second = 255 - np.ascontiguousarray(talking_frames(4, 40)[:, :, ::-1])
    second[:, 20:150, 30:160] = talking_frames(4, 40)[:, 20:150, 30:160]
    clips, _ = cut_span(
        write(tmp_path / "cut.mp4", np.concatenate([first, second])), 0.0, 60.0, PARAMETERS, decoder
    )
    assert [(c.start, c.num_frames) for c in clips] == [(0.0, 35), (1.4, 40)]


def test_where_the_face_is_gone_there_is_no_clip(tmp_path: Path, decoder: DecoderProcess) -> None:
    frames = talking_frames(5, 110)
    frames[40:80] = 120
    clips, _ = cut_span(write(tmp_path / "gone.mp4", frames), 0.0, 60.0, PARAMETERS, decoder)
    assert [(round(c.start * 25), round(c.end * 25)) for c in clips] == [(0, 40), (80, 110)]


def test_large_sources_keep_their_own_pixels_in_boxes(tmp_path: Path, decoder: DecoderProcess) -> None:
    small = talking_frames(6, 26)
    large = np.full((26, 1440, 2304, 3), 90, np.uint8)
    for frame, target in zip(small, large, strict=True):
        target[:, 432:1872] = cv2.resize(frame, (1440, 1440), interpolation=cv2.INTER_LINEAR)
    inside = only(write(tmp_path / "small.mp4", small), decoder)
    clip = only(write(tmp_path / "large.mp4", large), decoder)
    assert clip.size == PARAMETERS.size
    expected = np.array(inside.face_box) * 1440 / 192 + (432, 0, 0, 0)
    assert np.abs(np.array(clip.face_box) - expected).max() < 40


def test_without_sound_there_are_no_measures_of_it(tmp_path: Path, decoder: DecoderProcess) -> None:
    clip = only(write(tmp_path / "mute.mp4", talking_frames(7, 45)), decoder)
    assert (clip.audio, clip.loudness, clip.speech_share, clip.av_offset, clip.av_confidence) == (None,) * 5
    assert clip.fingerprint[24:] == bytes(40)


def test_silent_sound_is_kept_as_silence(tmp_path: Path, decoder: DecoderProcess) -> None:
    path = write_talking_video(tmp_path / "loud.mp4", 7, 1.4)
    silent = tmp_path / "silent.mp4"
    from imageio_ffmpeg import get_ffmpeg_exe

    command = [get_ffmpeg_exe(), "-v", "error", "-i", path, "-af", "volume=0", "-c:v", "copy", silent]
    subprocess.run(command, check=True)
    clip = only(silent, decoder)
    assert clip.audio is not None
    assert not decode_sound(clip.audio).any()
    assert (clip.loudness, clip.speech_share) == (-100.0, 0.0)


def test_what_cannot_be_cut_is_refused_with_its_reason(tmp_path: Path, decoder: DecoderProcess) -> None:
    grey = np.full((40, 64, 64, 3), 128, np.uint8)
    assert refusal(write(tmp_path / "grey.mp4", grey), decoder)[0] == "no face"
    assert refusal(write(tmp_path / "slow.mp4", grey[:5], fps=1), decoder)[0] == "too slow"
    assert refusal(write(tmp_path / "short.mp4", talking_frames(8, 20)), decoder)[0] == "too short"
    text = tmp_path / "text.mp4"
    text.write_text("words " * 100)
    assert refusal(text, decoder)[0] == "unreadable"


def test_a_truncated_file_is_refused_whatever_part_is_asked_for(
    talking: Path, tmp_path: Path, decoder: DecoderProcess
) -> None:
    path = tmp_path / "truncated.mp4"
    path.write_bytes(talking.read_bytes()[: talking.stat().st_size * 7 // 10])
    assert refusal(path, decoder)[0] == "damaged"
    clips, (fault,) = cut_span(path, 0.0, 1.2, PARAMETERS, decoder)
    assert (clips, fault.reason) == ([], "damaged")


def test_a_child_that_is_killed_once_costs_nothing(talking: Path, clip: CutClip) -> None:
    with DecoderProcess() as decoder:
        decoder.probe(talking)
        child = decoder.pid
        assert child is not None
        os.kill(child, signal.SIGSTOP)  # so that it is certainly killed in the middle
        threading.Timer(0.3, os.kill, (child, signal.SIGKILL)).start()
        assert only(talking, decoder) == clip
        assert decoder.pid != child


def test_a_file_that_kills_every_child_is_refused(
    talking: Path, clip: CutClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DecoderProcess() as decoder:
        ended = threading.Event()

        def hunt() -> None:
            while not ended.is_set():
                if decoder.pid is not None:
                    with contextlib.suppress(ProcessLookupError, TypeError):
                        os.kill(decoder.pid, signal.SIGKILL)
                time.sleep(0.01)

        hunter = threading.Thread(target=hunt)
        hunter.start()
        try:
            reason, detail = refusal(talking, decoder)
        finally:
            ended.set()
            hunter.join()
        assert reason == "decoder crashed"
        assert "SIGKILL" in detail
        assert only(talking, decoder) == clip
