"""A chunk of frames as a closed group of pictures: H.264 in NUT, made in memory, to be joined without re-encoding.

Groups of one frame size and rate have the same stream headers and no B frames, so that one after the other they are
one stream (`media.fragments`). Equal frames give equal bytes in any process.
"""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.codec.context import Flags
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

Frames = npt.NDArray[np.uint8]

PRESET = "veryfast"
OPTIONS = {
    "preset": PRESET, "bf": "0", "g": "100000", "sc_threshold": "0", "flags": "+bitexact",
    "mbtree": "0",  # x264's macroblock tree reads memory that nobody wrote: equal frames would give other bytes
}  # fmt: skip


def encode_gop(frames: Frames, fps: int, crf: int = 18) -> bytes:
    """H.264 (yuv420p, BT.709) of RGB frames [n, H, W, 3], n > 0; frame k has time stamp k / fps.

    Args:
        fps: frames per second.
        crf: x264's quality, 0 (lossless) to 51; 18 looks transparent.

    An odd height or width is padded by one repeated row or column. Raises ValueError for another shape.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or not len(frames):
        raise ValueError(f"frames must be [n, H, W, 3] with n above 0, not {list(frames.shape)}")
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        frames = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    file, to_video = io.BytesIO(), VideoReformatter()
    with av.open(file, "w", format="nut", options={"fflags": "+bitexact"}) as container:
        stream = _video_stream(container, frames.shape, fps, crf)
        for number, image in enumerate(frames):
            picture = to_video.reformat(
                av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24"),
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
                threads=1,
            )
            picture.pts, picture.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return file.getvalue()


def _video_stream(container: Any, shape: tuple[int, ...], fps: int, crf: int) -> Any:
    stream = container.add_stream("libx264", rate=fps, options={**OPTIONS, "crf": str(crf)})
    stream.height, stream.width, stream.pix_fmt = shape[1], shape[2], "yuv420p"
    context = stream.codec_context
    context.thread_count = 1
    context.flags |= Flags.global_header
    context.color_range, context.colorspace = 1, 1  # limited range, BT.709
    context.color_primaries, context.color_trc = 1, 1
    context.time_base = Fraction(1, fps)
    return stream
