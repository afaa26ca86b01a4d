"""Pictures of pictures: rows of frames side by side, for documents and for watching a training.

python -m ifmdm_core.media.contact_sheet sheet.jpg render-1.mp4 render-2.mp4 --count 12
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ifmdm_core.errors import BadInput, Forbidden

Pixels = NDArray[np.uint8]


def grid(rows: Sequence[Sequence[Pixels]], side: int) -> Pixels:
    """Pictures uint8 [H, W, 3] as a table of squares of `side` pixels; rows may differ in length."""
    width = max(len(row) for row in rows)
    sheet = np.full((side * len(rows), side * width, 3), 255, np.uint8)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            cell = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
            sheet[y * side : (y + 1) * side, x * side : (x + 1) * side] = cell
    return sheet


def film_strip(path: Path, count: int) -> list[Pixels]:
    """`count` frames of a video, evenly spaced. Raises BadInput when it has fewer."""
    from ifmdm_core.media.video import probe_video, read_frames

    duration = probe_video(str(path)).duration or 1.0
    frames = list(read_frames(str(path), fps=count / duration))[:count]
    if len(frames) < count:
        raise BadInput(
            f"{path} has only {len(frames)} frames", fix=f"ask for at most {len(frames)} with --count"
        )
    return frames


def write_grid(path: Path, rows: Sequence[Sequence[Pixels]], side: int) -> None:
    """Write `grid` as JPEG or PNG, by the path's ending. Raises Forbidden when it cannot be written."""
    if not cv2.imwrite(str(path), cv2.cvtColor(grid(rows, side), cv2.COLOR_RGB2BGR)):
        raise Forbidden(f"{path} cannot be written", fix="choose a folder you may write to")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="A contact sheet: one row of evenly spaced frames for each video."
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=12, help="frames a row")
    parser.add_argument("--side", type=int, default=128, help="pixels of a frame")
    arguments = parser.parse_args()
    write_grid(arguments.out, [film_strip(v, arguments.count) for v in arguments.videos], arguments.side)


if __name__ == "__main__":
    main()
