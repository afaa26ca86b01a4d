"""The lazy video: progress, timings, and files that appear whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np
import pytest

from ifmdm_core.media.audio import audio_from_samples
from ifmdm_core.video import Frames, Stopwatch, Video


def make(chunks: int = 4, fail_at: int | None = None) -> Video:
    def produce(watch: Stopwatch) -> Iterator[Frames]:
        for number in range(chunks):
            if number == fail_at:
                raise RuntimeError("model broke")
            with watch("decode"):
                yield np.full((5, 32, 48, 3), 10 * number, np.uint8)

    tone = 0.2 * np.sin(np.arange(5 * chunks * 640) * 0.1)
    return Video(5 * chunks, (48, 32), 25, audio_from_samples(tone, 16_000), produce, tags={"title": "t"})


def test_frames_and_progress():
    video, seen = make(), []
    video.progress = lambda done, total: seen.append((done, total))
    assert sum(1 for _ in video) == 20
    assert seen == [(5, 20), (10, 20), (15, 20), (20, 20)]


def test_saving_writes_every_frame_in_order(tmp_path):
    video = make()
    video.save(tmp_path / "v.mp4")
    with av.open(str(tmp_path / "v.mp4")) as container:
        means = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
    assert len(means) == 20
    assert np.allclose(means[::5], [0, 10, 20, 30], atol=3)
    assert {"decode", "encode", "mux"} <= set(video.seconds)


@pytest.mark.parametrize("fail_at", [0, 2])
def test_a_failure_in_the_model_leaves_nothing(tmp_path, fail_at):
    with pytest.raises(RuntimeError, match="model broke"):
        make(fail_at=fail_at).save(tmp_path / "v.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_of_the_encoder_is_raised(tmp_path):
    video = make(chunks=60)
    video.size = (48, 30)  # not what the frames are
    with pytest.raises(ValueError, match="frames must be"):
        video.save(tmp_path / "v.mp4")
    assert list(tmp_path.iterdir()) == []
