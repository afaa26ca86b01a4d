"""Others' judges on random weights: that they run, and what does not depend on weights."""

import numpy as np
import pytest

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.metrics.mfcc import mfcc
from ifmdm_core.metrics.onnx_judges import IdentityJudge, InceptionJudge, OnnxNet, SyncNetJudge, lse
from ifmdm_core.metrics.video_score import Judges
from tests.onnx_files import write_convolution
from tests.talking_videos import talking_frames

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def frames():
    return talking_frames(1, 40, size=96)


@pytest.fixture(scope="module")
def meshes(make_mesh):
    return np.concatenate([make_mesh(0.05 + 0.05 * (k % 3)) * 30 + 40 for k in range(40)]).astype(np.float32)


def test_inception_features_tell_pictures_apart(frames, tmp_path):
    judge = InceptionJudge(write_convolution(tmp_path / "i.onnx", (1, 3, 299, 299), (9, 9), (58, 58), 4))
    features = judge.features(frames, every=8)
    assert features.shape == (5, 4 * 36)
    again = judge.features(frames[:1])
    np.testing.assert_array_equal(again[0], features[0])
    assert not np.allclose(features[0], features[-1])


def test_the_network_gets_rgb_in_its_range(tmp_path):
    """A known network: its answer is the sum of a red picture's red weights alone."""
    judge = InceptionJudge(
        write_convolution(tmp_path / "i.onnx", (1, 3, 299, 299), (1, 1), (298, 298), 8, seed=3)
    )
    weights = np.random.default_rng(3).normal(0, 0.1, (8, 3, 1, 1)).astype(np.float32)[:, :, 0, 0]
    red = np.zeros((1, 64, 64, 3), np.uint8)
    red[..., 0] = 255
    corners = np.maximum(weights @ np.array([1.0, -1.0, -1.0]), 0).repeat(4)
    np.testing.assert_allclose(judge.features(red)[0], corners, atol=1e-5)


def test_identity_ignores_frames_without_a_face(frames, meshes, tmp_path):
    judge = IdentityJudge(write_convolution(tmp_path / "a.onnx", (1, 3, 112, 112), (9, 9), (50, 50), 8))
    meshes = meshes.copy()
    meshes[5:] = np.nan
    embeddings = judge.embed(frames, meshes)
    assert embeddings.shape == (1, 8 * 9)
    assert np.linalg.norm(embeddings[0]) == pytest.approx(1)
    assert judge.embed(frames, np.full_like(meshes, np.nan)).shape[0] == 0


def test_syncnet_runs_on_a_clip_and_passes_over_a_short_one(frames, meshes, tmp_path):
    lips = write_convolution(tmp_path / "l.onnx", (1, 3, 5, 224, 224), (5, 32, 32), (1, 64, 64), 8)
    sound = write_convolution(tmp_path / "s.onnx", (1, 1, 13, 20), (13, 5), (1, 1), 8)
    judge = SyncNetJudge(lips, sound)
    assert judge.score(frames[:30], meshes[:30], np.zeros(30 * 640, np.float32)) is None
    found = judge.score(frames, meshes, RNG.normal(0, 0.1, 40 * 640).astype(np.float32))
    assert found is not None
    assert np.isfinite(found).all()
    assert found[1] >= 0


def test_lse_finds_embeddings_that_belong_together():
    seen = RNG.normal(size=(60, 32)).astype(np.float32)
    distance, confidence = lse(seen, seen)
    stranger_distance, stranger_confidence = lse(seen, RNG.normal(size=(60, 32)).astype(np.float32))
    assert distance < 0.01
    assert confidence > 3
    assert stranger_distance > 5
    assert stranger_confidence < 1
    late = np.concatenate([RNG.normal(size=(4, 32)).astype(np.float32), seen])[:60]
    assert lse(seen, late)[1] > stranger_confidence + 2  # an offset within reach is searched for


def test_loudness_is_in_the_first_coefficient_alone():
    sound = RNG.normal(0, 0.05, 16_000)
    quiet, loud = mfcc(sound), mfcc(2 * sound)
    assert quiet.shape == (99, 13)
    np.testing.assert_allclose(loud[:, 0] - quiet[:, 0], np.log(4), atol=1e-3)
    np.testing.assert_allclose(loud[:, 1:], quiet[:, 1:], atol=1e-2)
    tone = mfcc(0.1 * np.sin(2 * np.pi * 300 * np.arange(16_000) / 16_000))
    assert np.abs(tone[20:80, 1:] - quiet[20:80, 1:]).mean() > 5  # and what is said is in the others


def test_bad_weights_are_refused_by_name(tmp_path, frames):
    with pytest.raises(NotFound, match=r"none\.onnx"):
        OnnxNet(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not a network")
    with pytest.raises(BadInput, match=r"bad\.onnx"):
        OnnxNet(tmp_path / "bad.onnx")
    with pytest.raises(BadInput, match="did you mean 'arcface'"):
        Judges.load("own", {"arkface": "x.onnx"})
    with pytest.raises(BadInput, match="both syncnet-lips and syncnet-sound"):
        Judges.load("own", {"syncnet-lips": "x.onnx"})
