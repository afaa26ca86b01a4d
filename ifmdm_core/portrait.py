"""The still picture: which face, its crop, and how a rendered frame becomes an output frame."""

from __future__ import annotations

import os
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ifmdm_core.controls import RenderControls
from ifmdm_core.media.face import Square, crop, locate_face, paste_back
from ifmdm_core.media.image import read_image

Image = NDArray[np.uint8]
Photo = str | os.PathLike[str] | bytes | Image

MAX_WHOLE_SIDE = 1920
"""Longer side of a whole picture that a face is pasted back into; larger ones are reduced first (video players)."""


@dataclass(frozen=True)
class Portrait:
    """A picture with its face found, and how its frames leave the model."""

    whole: Image
    """[H, W, 3] RGB."""
    square: Square
    """The part that is animated."""
    crop: Image
    """[S, S, 3], what the encoder sees."""
    output: int | None
    """Side of the square output; None pastes back into the whole picture."""
    note: str
    """What the user should know; empty when nothing."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of output frames."""
        if self.output is not None:
            return self.output, self.output
        return self.whole.shape[1], self.whole.shape[0]

    def finish(self, frames: Image) -> Image:
        """Model frames [n, S, S, 3] -> output frames [n, H, W, 3]."""
        if self.output is None:
            return np.stack([paste_back(self.whole, self.square, frame) for frame in frames])
        side = frames.shape[1]
        if self.output == side:
            return frames
        how = cv2.INTER_CUBIC if self.output > side else cv2.INTER_AREA
        return np.stack(
            [cv2.resize(frame, (self.output, self.output), interpolation=how) for frame in frames]
        )


def open_portrait(photo: Photo, controls: RenderControls, model_size: int) -> Portrait:
    """Reads a picture, finds the face that `controls.face` names and crops it.

    Raises BadInput when the picture cannot be read, no face is found or the given box is outside it.
    """
    name = str(photo) if isinstance(photo, (str, os.PathLike)) else "the picture"
    whole = photo if isinstance(photo, np.ndarray) else read_image(photo)
    choice = locate_face(whole, controls.face, name=name)
    notes = [choice.note] if choice.note else []
    square = choice.square
    cut = crop(whole, square, model_size)
    if controls.paste_back:
        longer = max(whole.shape[:2])
        if longer > MAX_WHOLE_SIDE:
            scale = MAX_WHOLE_SIDE / longer
            width, height = round(whole.shape[1] * scale), round(whole.shape[0] * scale)
            whole = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
            square = Square(square.cx * scale, square.cy * scale, square.side * scale)
            notes.append(f"the picture is reduced to {width}x{height}")
        output = None
    else:
        output = controls.size or model_size
    return Portrait(np.asarray(whole, np.uint8), square, cut, output, "; ".join(notes))
