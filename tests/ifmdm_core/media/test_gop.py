"""Chunks as groups of pictures: what comes out, the same headers for every chunk, the same bytes every time."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from ifmdm_core.media.gop import encode_gop


def gradient(num_frames: int, width: int = 64, height: int = 48, first: int = 0) -> np.ndarray:
    """Smooth coloured frames [n, H, W, 3], each a little brighter than the one before."""
    y, x, t = np.mgrid[:height, :width, first : first + num_frames]
    colours = [60 + x + t, 90 + y - t, 200 - x + 0 * t]
    return np.stack(colours, -1).transpose(2, 0, 1, 3).clip(0, 255).astype(np.uint8)


def decoded(gop: bytes) -> np.ndarray:
    with av.open(io.BytesIO(gop), format="nut") as container:
        frames = [
            frame.reformat(format="rgb24", src_colorspace="ITU709") for frame in container.decode(video=0)
        ]
    return np.stack([frame.to_ndarray() for frame in frames])


def header(gop: bytes) -> bytes:
    with av.open(io.BytesIO(gop), format="nut") as container:
        return bytes(container.streams.video[0].codec_context.extradata)


@pytest.mark.parametrize("num_frames", [1, 8, 30])
def test_frames_come_back(num_frames: int) -> None:
    frames = gradient(num_frames)
    back = decoded(encode_gop(frames, 25, crf=10))
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).mean() < 1.5
    assert np.abs(back.astype(int) - frames).mean((1, 2, 3)).max() < 2


def test_it_is_one_closed_group_without_b_frames() -> None:
    with av.open(io.BytesIO(encode_gop(gradient(30), 30)), format="nut") as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (
            1,
        ) * 4
        packets = [packet for packet in container.demux() if packet.size]
    assert [packet.is_keyframe for packet in packets] == [True] + [False] * 29
    assert [packet.pts * packet.time_base for packet in packets] == [Fraction(k, 30) for k in range(30)]
    assert all(packet.pts == packet.dts for packet in packets)


def test_every_chunk_has_the_same_header_and_the_same_bytes_each_time() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (13, 48, 64, 3), np.uint8)
    chunks = [gradient(1), gradient(25, first=9), noise]
    assert len({header(encode_gop(chunk, 25)) for chunk in chunks}) == 1
    assert header(encode_gop(gradient(1, 96), 25)) != header(encode_gop(gradient(1), 25))
    assert encode_gop(noise, 25) == encode_gop(noise.copy(), 25)


def test_odd_sides_are_padded_by_a_repeated_row_and_column() -> None:
    frames = gradient(3, 63, 47)
    back = decoded(encode_gop(frames, 25, crf=10))
    assert back.shape == (3, 48, 64, 3)
    assert np.abs(back[:, :47, :63].astype(int) - frames).mean() < 1.5
    assert np.abs(back[:, 47].astype(int) - back[:, 46]).mean() < 4


@pytest.mark.parametrize("shape", [(0, 48, 64, 3), (48, 64, 3), (2, 48, 64, 4)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[n, H, W, 3\]"):
        encode_gop(np.zeros(shape, np.uint8), 25)
