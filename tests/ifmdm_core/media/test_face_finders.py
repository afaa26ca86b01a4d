from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ifmdm_core.errors import NotFound, Unsupported
from ifmdm_core.media import face_finders, face_net
from ifmdm_core.media.face import find_faces
from ifmdm_core.media.image import read_image


@pytest.fixture
def without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_net, "bundled", lambda: None)
    monkeypatch.delenv(face_finders.VARIABLE, raising=False)


def test_our_net_is_the_usual_finder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(face_finders.VARIABLE, raising=False)
    assert isinstance(face_finders.finder(), face_net.FaceNet)


def test_a_missing_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(face_finders.VARIABLE, "/nowhere/face.task")
    with pytest.raises(NotFound, match=r"/nowhere/face\.task: .*IFMDM_FACE_LANDMARKER"):
        find_faces(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.usefixtures("without_weights")
def test_haar_stands_in(portrait: Path) -> None:
    if not hasattr(cv2, "CascadeClassifier"):
        with pytest.raises(Unsupported, match="--face x,y,w,h"):
            find_faces(read_image(portrait))
        return
    face = find_faces(read_image(portrait))[0]
    assert face_net.overlap(face.box, (180.7, 71.8, 89.5, 105.8)) > 0.4
    assert face.landmarks.shape == (0, 2)
