"""The lip map from pictures: mouths that open are told from heads that move, and too little is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ifmdm_core.errors import BadInput
from ifmdm_core.media.image import read_image
from ifmdm_core.training.crop_meshes import CropMeshes
from ifmdm_core.training.lip_map import fit_picture_lip_map
from ifmdm_core.training.mouth_flow import measure_flows, mouth_flow

SIZE = 256


@pytest.fixture(scope="module")
def face(portrait) -> np.ndarray:
    """The bundled photo's face as a dataset's clips are cut, [256, 256, 3]."""
    from ifmdm_core.media.face import clip_square, crop
    from ifmdm_core.media.face_net import bundled

    image = read_image(portrait)
    nets = bundled()
    assert nets is not None
    found = max(nets(image), key=lambda f: f.score)
    return crop(image, clip_square(found.box), SIZE)


def moved(face: np.ndarray, mouth: tuple[float, float], jaw: float, shift: tuple[float, float]) -> np.ndarray:
    """The face with everything below the mouth pulled down by up to `jaw` pixels, and all of it shifted."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    below = np.clip((y - mouth[1]) / 12, 0, 1) * np.exp(-(((x - mouth[0]) / 45) ** 2))
    return cv2.remap(
        face,
        (x - shift[0]).astype(np.float32),
        (y - shift[1] - jaw * below).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


@pytest.fixture(scope="module")
def clips(face) -> list[tuple[np.ndarray, np.ndarray]]:
    """Motion whose third number opens the mouth and whose fourth moves the head."""
    points, sure = CropMeshes.load()(face[None])
    assert sure[0]
    mouth = tuple(points[0, 13] * SIZE)
    made = []
    for number in range(10):
        rng = np.random.default_rng(number)
        motion = rng.normal(0, 0.02, (12, 20)).astype(np.float32)
        opening, head = rng.uniform(0, 1, 12), rng.uniform(-1, 1, 12)
        motion[:, 2], motion[:, 3] = 0.3 * opening, 0.3 * head
        pictures = [moved(face, mouth, 7 * o, (6 * h, 3 * h)) for o, h in zip(opening, head, strict=True)]
        made.append((motion, np.stack(pictures)))
    return made


def test_the_map_finds_the_number_that_opens_the_mouth(clips) -> None:
    found = fit_picture_lip_map(clips, dims=4)
    assert found.matrix.shape == (4, 20)
    assert found.bias.shape == (4,)
    assert found.frames == 120
    assert found.r2[0] > 0.7
    effect = found.matrix[0] * np.std(np.concatenate([motion for motion, _ in clips]), 0)
    assert np.argmax(np.abs(effect)) == 2
    assert effect[2] > 0.6, "an open mouth measures more"
    assert abs(effect[3]) < 0.25, "a moving head is no opening"


def test_measurements_have_unit_spread_within_clips(clips) -> None:
    see = CropMeshes.load()
    flows = [mouth_flow(frames, see(frames)[0] * SIZE) for _, frames in clips[:4]]
    lips = measure_flows(flows, 3)
    within = np.concatenate([part - part.mean(0) for part in lips])
    np.testing.assert_allclose(within.std(0), 1, atol=1e-3)


def test_pictures_without_faces_are_refused() -> None:
    grey = [(np.zeros((12, 20), np.float32), np.full((12, 64, 64, 3), 128, np.uint8))]
    with pytest.raises(BadInput, match="0 frames with a face are too few"):
        fit_picture_lip_map(grey * 10)
