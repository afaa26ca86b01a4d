from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ifmdm_core.media.face import find_faces
from ifmdm_core.media.face_net import FaceNet, Landmarker, bundled
from ifmdm_core.media.image import read_image
from ifmdm_core.training.face_net import (
    Batches,
    FaceNetTraining,
    detector_loss,
    detector_targets,
    evaluate,
    landmarker_loss,
    save,
    train,
)
from ifmdm_core.training.face_samples import FaceSamples, close_up, scene

TINY = FaceNetTraining(
    detector_steps=3, landmarker_steps=12, second_detector_steps=2, second_landmarker_steps=2, detector_batch=2,
    landmarker_batch=4, scenes=3, close_ups=6,
)  # fmt: skip


@pytest.fixture(scope="module")
def samples(portrait: Path) -> FaceSamples:
    """One labelled picture; its labels are what the bundled net sees."""
    photo = read_image(portrait)
    face = find_faces(photo)[0]
    return FaceSamples([photo], face.landmarks[None], np.arange(478), ["astronaut"])


def test_samples_survive_a_file(samples: FaceSamples, tmp_path: Path) -> None:
    samples.save(tmp_path / "s.npz")
    again = FaceSamples.load(tmp_path / "s.npz")
    np.testing.assert_array_equal(again.meshes, samples.meshes)
    assert again.names == ["astronaut"]
    assert np.abs(again.pictures[0].astype(int) - samples.pictures[0]).mean() < 5


def test_meshes_follow_their_close_ups() -> None:
    """A picture whose only bright spots lie under mesh points keeps them there, turned, scaled and mirrored."""
    rng = np.random.default_rng(0)
    mesh = np.concatenate([[(120, 120), (200, 120), (160, 220)], rng.uniform(115, 205, (475, 2))]).astype(
        np.float32
    )
    picture = np.zeros((320, 320, 3), np.uint8)
    for x, y in mesh[:3]:
        picture[int(y) - 6 : int(y) + 6, int(x) - 6 : int(x) + 6] = 255
    mirror = np.arange(478)
    mirror[:2] = 1, 0
    samples = FaceSamples([picture], mesh[None], mirror)
    seen = hit = 0
    for seed in range(25):
        patch, points, is_face = close_up(samples, np.random.default_rng(seed))
        assert patch.shape == (112, 112, 3)
        for x, y in points[:3] * 112 if is_face else ():
            if 0 <= x < 112 and 0 <= y < 112:
                seen += 1
                hit += patch[int(y), int(x)].min() > 150
    assert seen > 30
    assert hit >= 0.85 * seen  # some are covered on purpose


def test_scenes_hold_their_boxes(samples: FaceSamples) -> None:
    counts = []
    for seed in range(20):
        picture, boxes = scene(samples, np.random.default_rng(seed))
        assert picture.shape == (160, 160, 3)
        assert (boxes[:, 2:] > 0).all()
        middles = boxes[:, :2] + boxes[:, 2:] / 2
        assert ((middles > -20) & (middles < 180)).all()
        counts.append(len(boxes))
    assert min(counts) == 0
    assert max(counts) >= 2


def test_targets_say_where_the_box_is() -> None:
    heat, values, counts, ignored = detector_targets(np.array([[40.0, 48, 32, 64], [100, 100, 4, 4]]), 20)
    row, column = 10, 7  # the cell of (56, 80)
    assert heat[row, column] == 1
    assert (heat == 1).sum() == 1  # the tiny one is neither wanted nor punished
    assert ignored[12, 12] == 1
    np.testing.assert_allclose(values[:, row, column], [-0.5, -0.5, np.log(4), np.log(8)], atol=1e-5)
    assert counts[row, column] > 0


def test_perfect_answers_cost_nothing() -> None:
    targets = [torch.from_numpy(t)[None] for t in detector_targets(np.array([[40.0, 48, 32, 64]]), 20)]
    grid = torch.cat([torch.where(targets[0] == 1, 20.0, -20.0)[:, None], targets[1]], 1)
    assert detector_loss(grid, *targets) < 1e-3
    points = torch.rand(3, 478, 2)
    box = torch.cat([points.amin(1), points.amax(1)], 1)
    terms = landmarker_loss(
        points, box, torch.tensor([20.0, 20.0, -20.0]), points, torch.tensor([1.0, 1.0, 0.0])
    )
    assert terms["loss"] < 1e-3


def test_a_batch_depends_on_seed_and_step_alone(samples: FaceSamples) -> None:
    for make in (Batches.detector, Batches.landmarker):
        a, b = Batches(samples, TINY), Batches(samples, TINY)
        make(a, 0)
        for x, y in zip(make(a, 1), make(b, 1)):
            torch.testing.assert_close(x, y, rtol=0, atol=0)


def test_the_loss_falls_and_a_resumed_run_is_the_same(samples: FaceSamples, tmp_path: Path) -> None:
    whole = train(samples, tmp_path / "whole", TINY)
    for _ in range(24):  # so little time that each call takes a step or two
        parts = train(samples, tmp_path / "parts", TINY, minutes=1e-4)
    for a, b in ((whole.landmarker, parts.landmarker), (whole.detector, parts.detector)):
        for x, y in zip(a.state_dict().values(), b.state_dict().values()):
            torch.testing.assert_close(x, y, rtol=0, atol=0)
    assert _loss(whole.landmarker, samples) < 0.8 * _loss(Landmarker(), samples)


def _loss(net: Landmarker, samples: FaceSamples) -> float:
    picture, points, is_face = Batches(samples, TINY).landmarker(99)
    with torch.no_grad():
        return float(landmarker_loss(*net.train()(picture), points, is_face)["loss"])


def test_the_result_is_small_and_can_be_measured(samples: FaceSamples, tmp_path: Path) -> None:
    net = bundled()
    assert net is not None
    save(net, tmp_path / "net.safetensors")
    assert (tmp_path / "net.safetensors").stat().st_size < 1_000_000
    measured = evaluate(FaceNet.load(tmp_path / "net.safetensors"), samples)
    assert measured["recall"] == 1
    assert measured["other_finds"] == 0
    assert measured["nme_median"] < 0.01  # the labels are its own answer
