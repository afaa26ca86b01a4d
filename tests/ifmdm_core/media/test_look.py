"""The look of a face: copies of a picture are known again, other pictures are not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ifmdm_core.controls import RenderControls
from ifmdm_core.media.look import NEAR, look, looks
from ifmdm_core.portrait import Image, open_portrait


@pytest.fixture(scope="module")
def photo(portrait: Path) -> Image:
    return np.asarray(cv2.cvtColor(cv2.imread(str(portrait)), cv2.COLOR_BGR2RGB))


def crop(photo: Image) -> Image:
    return open_portrait(photo, RenderControls(), 256).crop


@pytest.fixture(scope="module")
def known(photo: Image) -> Image:
    """The face of the bundled photo."""
    return crop(photo)


def apart(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def jpeg(photo: Image, quality: int) -> Image:
    packed = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR))


COPIES = {
    "compressed": lambda crop: jpeg(crop, 40),
    "half as large": lambda crop: cv2.resize(crop, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "brighter": lambda crop: np.clip(crop * 1.2 + 10, 0, 255).astype(np.uint8),
    "without colour": lambda crop: np.repeat(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[..., None], 3, 2),
    "cut a little": lambda crop: crop[6:-6, 6:-6],
}


def test_a_mirrored_and_compressed_photo_is_known_again(photo: Image, known: Image) -> None:
    found = crop(jpeg(np.ascontiguousarray(photo[:, ::-1]), 60))  # its face is found anew
    assert min(apart(look(known), each) for each in looks(found)) <= NEAR


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_known_again(known: Image, copy: str) -> None:
    assert apart(look(known), look(COPIES[copy](known))) <= NEAR


def test_another_picture_is_another(known: Image) -> None:
    other = np.random.default_rng(0).normal(128, 40, (8, 8, 3)).clip(0, 255)
    smooth = cv2.resize(other.astype(np.uint8), (256, 256), interpolation=cv2.INTER_CUBIC)
    assert min(apart(look(known), found) for found in looks(smooth)) > 1.5 * NEAR
