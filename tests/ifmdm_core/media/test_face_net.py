from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ifmdm_core.media.face import crop_square, find_faces, locate_face
from ifmdm_core.media.face_net import POINTS, Detector, FaceNet, Landmarker, bundled, cut, overlap
from ifmdm_core.media.image import read_image

ASTRONAUT = (180.7, 71.8, 89.5, 105.8)  # x, y, w, h of her mesh by the reference landmarker, pixels


@pytest.fixture(scope="module")
def photo(portrait: Path) -> np.ndarray:
    return read_image(portrait)


def test_shapes() -> None:
    grid = Detector()(torch.rand(2, 3, 96, 160))
    assert grid.shape == (2, 5, 12, 20)
    mesh, box, face = Landmarker()(torch.rand(2, 1, 112, 112))
    assert (mesh.shape, box.shape, face.shape) == ((2, POINTS, 2), (2, 4), (2,))


def test_the_nets_are_small() -> None:
    assert sum(p.numel() for net in (Detector(), Landmarker()) for p in net.parameters()) < 500_000


def test_overlap() -> None:
    assert overlap((0, 0, 10, 10), (0, 0, 10, 10)) == pytest.approx(1)
    assert overlap((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 10, 10), (20, 20, 5, 5)) == 0


@pytest.mark.parametrize("side", [30.0, 80.0, 150.0, 333.3])
def test_a_cut_square_is_where_it_says(side: float) -> None:
    image = np.zeros((400, 400, 3), np.uint8)
    image[180:220, 190:230] = 255  # middle at (210, 200)
    x0, y0 = 210 - 0.6 * side, 200 - 0.45 * side
    patch = cut(image, x0, y0, side, 112).mean(2)
    if side > 80:
        rows, columns = np.mgrid[:112, :112] + 0.5
        middle = np.array([(columns * patch).sum(), (rows * patch).sum()]) / patch.sum() / 112
        np.testing.assert_allclose(middle, [0.6, 0.45], atol=0.01)
    assert patch[int(0.45 * 112), int(0.6 * 112)] == 255


def test_the_bundled_net_finds_the_astronaut(photo: np.ndarray) -> None:
    (face,) = find_faces(photo)
    assert overlap(face.box, ASTRONAUT) > 0.6
    assert face.landmarks.shape == (POINTS, 2)
    x, y, w, h = face.box
    eyes, lips = face.landmarks[[33, 263]].mean(0), face.landmarks[[61, 291]].mean(0)
    assert y < eyes[1] < lips[1] < y + h
    assert x < lips[0] < x + w
    assert face.landmarks[33][0] < face.landmarks[263][0]
    assert 1.5 * max(w, h) < locate_face(photo).square.side < 2 * max(w, h)


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0])
def test_size_does_not_matter(photo: np.ndarray, scale: float) -> None:
    resized = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    assert overlap(find_faces(resized)[0].box, tuple(scale * v for v in ASTRONAUT)) > 0.6


def test_a_mirrored_photo_gives_a_mirrored_face(photo: np.ndarray) -> None:
    x, y, w, h = ASTRONAUT
    mirrored = find_faces(np.ascontiguousarray(photo[:, ::-1]))[0].box
    assert overlap(mirrored, (photo.shape[1] - x - w, y, w, h)) > 0.6


def test_a_small_face_in_a_wide_picture(photo: np.ndarray) -> None:
    small = cv2.resize(photo, (240, 240), interpolation=cv2.INTER_AREA)  # a face of 6 % of the width
    wide = np.full((400, 700, 3), (90, 120, 150), np.uint8)
    wide[100:340, 400:640] = small
    x, y, w, h = (v * 240 / 512 for v in ASTRONAUT)
    assert overlap(find_faces(wide)[0].box, (400 + x, 100 + y, w, h)) > 0.5


def test_two_faces_come_largest_first(photo: np.ndarray) -> None:
    two = np.full((512, 900, 3), 128, np.uint8)
    two[:, :512] = photo
    two[100:400, 560:860] = cv2.resize(photo[:, ::-1], (300, 300), interpolation=cv2.INTER_AREA)
    faces = find_faces(two)
    assert len(faces) == 2
    assert faces[0].box[0] < 512 < faces[1].box[0]
    choice = locate_face(two, 1)
    assert choice.square == crop_square(faces[1].box)


@pytest.mark.parametrize("kind", ["black", "white", "noise", "gradient", "stripes", "text", "shuffled"])
def test_no_face_where_there_is_none(photo: np.ndarray, kind: str) -> None:
    rng = np.random.default_rng(0)
    image = np.zeros((300, 400, 3), np.uint8)
    if kind == "white":
        image[:] = 255
    elif kind == "noise":
        image = rng.integers(0, 256, image.shape, np.uint8)
    elif kind == "gradient":
        image[:] = np.linspace(0, 255, 400).astype(np.uint8)[None, :, None]
    elif kind == "stripes":
        image[:] = (127 + 120 * np.sin(np.arange(400) / 9)).astype(np.uint8)[None, :, None]
    elif kind == "text":
        for row in range(40, 300, 40):
            cv2.putText(image, "no face here: (o_o) 0808", (5, row), 1, 1.8, (255, 255, 255), 2)
    elif kind == "shuffled":
        tiles = [photo[y : y + 32, x : x + 32] for y in range(0, 288, 32) for x in range(0, 384, 32)]
        order = rng.permutation(len(tiles))
        image = np.vstack([np.hstack([tiles[k] for k in order[r * 12 : r * 12 + 12]]) for r in range(9)])
    assert find_faces(image) == []


def test_weights_survive_half_precision(tmp_path: Path, photo: np.ndarray) -> None:
    from ifmdm_core.training.face_net import save

    net = bundled()
    assert net is not None
    save(net, tmp_path / "net.safetensors")
    again = FaceNet.load(tmp_path / "net.safetensors")
    np.testing.assert_allclose(again(photo)[0].box, net(photo)[0].box, atol=0.01)
