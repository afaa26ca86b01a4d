"""Digest and length of a source, or why its content cannot be used; faults of storage are no content faults."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ifmdm_core.errors import Unavailable
from ifmdm_core.media.video_writer import VideoWriter
from ifmdm_core.storage import open_storage
from pipelines.clips.probe import Probed, probe_source
from pipelines.clips.sources import list_sources
from tests.fault_proxy import Cut, FaultProxy


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of noise, 64x48, 10 fps, no sound."""
    path = tmp_path_factory.mktemp("video") / "noise.mp4"
    frames = np.random.default_rng(0).integers(0, 255, (10, 48, 64, 3), np.uint8)
    with VideoWriter(path, (64, 48), 10) as writer:
        writer.write(frames)
    return path


def probe(folder: Path, name: str, data: bytes) -> Probed:
    (folder / name).write_bytes(data)
    (item,) = (item for item in list_sources(str(folder)).items if item.source == name)
    return probe_source(item)


def test_a_video_has_a_digest_and_a_length_whatever_it_is_called(video: Path, tmp_path: Path) -> None:
    data = video.read_bytes()
    for name in ("a.mp4", "b.bin", "c é .mov"):
        probed = probe(tmp_path, name, data)
        assert (probed.sha256, probed.size) == (hashlib.sha256(data).hexdigest(), len(data))
        assert probed.duration == pytest.approx(1.0)
        assert probed.fault_reason is None


def test_the_stamp_is_the_listed_one(video: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(video.read_bytes())
    (item,) = list_sources(str(tmp_path)).items
    assert probe_source(item).stamp == item.stamp


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("empty.mp4", b"", "empty"),
        ("text.mp4", b"no video at all\n" * 100, "unreadable"),
        ("half.mp4", None, "unreadable"),  # the index is at the end or what it points to is gone
    ],
)
def test_content_that_cannot_be_used_has_a_reason(
    name: str, data: bytes | None, reason: str, video: Path, tmp_path: Path
) -> None:
    if data is None:
        data = b"".join([video.read_bytes()[:32], bytes(500)])
    probed = probe(tmp_path, name, data)
    assert (probed.fault_reason, probed.duration) == (reason, None)
    assert name in probed.fault_detail or reason == "empty"
    assert probed.sha256 == hashlib.sha256(data).hexdigest()


def test_a_sound_and_a_photo_are_no_video(portrait: Path, tmp_path: Path) -> None:
    samples = portrait.parent
    assert probe(tmp_path, "s.flac", (samples / "speech.flac").read_bytes()).fault_reason == "no picture"
    assert probe(tmp_path, "p.jpg", portrait.read_bytes()).fault_reason == "unreadable"


def test_frames_too_large_to_decode_are_refused_by_their_header(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "huge.mkv"), "w") as container:
        stream = container.add_stream("rawvideo", rate=1)
        stream.width, stream.height, stream.pix_fmt = 9000, 4800, "gray"
        packet = av.Packet(bytes(16))
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1)
        container.mux(packet)
    (item,) = list_sources(str(tmp_path)).items
    assert probe_source(item).fault_reason == "too large"


def test_a_container_that_does_not_say_its_length_is_measured(video: Path, tmp_path: Path) -> None:
    import av

    with av.open(str(video)) as source, av.open(str(tmp_path / "a.ts"), "w", format="mpegts") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    (item,) = list_sources(str(tmp_path)).items
    assert probe_source(item).duration == pytest.approx(1.0, abs=0.11)


def test_a_source_in_a_bucket_is_downloaded_probed_and_removed(
    video: Path, tmp_path: Path, flaky_s3: FaultProxy
) -> None:
    prefix = f"s3://renders/{tmp_path.name}"
    open_storage(prefix, flaky_s3.config).upload("v.mp4", video)
    (item,) = list_sources(prefix, flaky_s3.config).items
    flaky_s3.add(Cut(500), times=2, methods=("GET",))
    probed = probe_source(item, flaky_s3.config, tmp_path)
    assert probed.sha256 == hashlib.sha256(video.read_bytes()).hexdigest()
    assert probed.duration == pytest.approx(1.0)
    flaky_s3.add(Cut(0), methods=("GET",))
    with pytest.raises(Unavailable, match=r"v\.mp4"):
        probe_source(item, flaky_s3.config, tmp_path)
    assert list(tmp_path.iterdir()) == []
