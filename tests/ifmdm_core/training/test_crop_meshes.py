"""Meshes of cut-out faces, without a detector."""

import numpy as np

from ifmdm_core.media.face_net import bundled
from ifmdm_core.training.crop_meshes import CropMeshes
from tests.ifmdm_core.training.stage1 import clip, faceless


def test_they_are_those_of_the_whole_face_finder():
    frames = clip(2, 26, 256)[::5]
    meshes, seen = CropMeshes.load()(frames)
    assert seen.all()
    away = []
    for frame, mesh in zip(frames, meshes, strict=True):
        (face,) = bundled()(frame)
        away.append(np.abs(mesh * 256 - face.landmarks).mean())
    assert np.median(away) < 1.5  # pixels of 256
    assert max(away) < 3


def test_nobody_is_seen_where_nobody_is():
    photo = clip(2, 26, 128)[0]
    beside = np.roll(photo, 64, 1)
    noise = np.random.default_rng(0).integers(0, 255, photo.shape, np.uint8)
    _, seen = CropMeshes.load()(
        np.stack([photo, beside, noise, np.full_like(photo, 90), *faceless("x", 128).frames])
    )
    assert seen.tolist() == [True, False, False, False, False, False]
