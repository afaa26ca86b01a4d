"""Figures and pictures of held-out people say what they claim."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ifmdm_core.bundle import load_bundle
from ifmdm_core.errors import BadInput
from ifmdm_core.media.video import probe_video, read_frames
from ifmdm_core.training.autoencoder_look import HeldOut, left_out_r2, look
from ifmdm_core.training.autoencoder_task import new_autoencoder
from ifmdm_core.training.items import FramePair
from ifmdm_core.training.task import Validation
from tests.ifmdm_core.training.stage1 import SMALL, clip, faceless, pairs

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Validation, Path]:
    """A look at the bundled model; files are in the folder."""
    folder = tmp_path_factory.mktemp("look")
    held_out = HeldOut([*pairs(3, 256), faceless("nobody", 256)], clip(7, 26, 256)[:6])
    return look(load_bundle("demo").autoencoder(), held_out, folder, CPU), folder


def test_a_trained_model_gains_over_copying_and_an_untrained_one_does_not(demo, tmp_path):
    trained = demo[0].metrics
    untrained = look(new_autoencoder(SMALL, 0), HeldOut(pairs(3)), tmp_path, CPU).metrics
    for name in ("mouth_gain_db", "eyes_gain_db"):
        assert trained[name] > 1
        assert abs(untrained[name]) < 0.2
    assert trained["motion_dims"] > 5 > untrained["motion_dims"]
    assert trained["saturation"] < 0.05


def test_the_sheet_has_a_column_for_each_pair(demo):
    sheet = cv2.imread(str(demo[1] / "pairs.png"))[..., ::-1]
    assert sheet.shape == (3 * 192, 4 * 192, 3)
    source = cv2.resize(pairs(1, 256)[0].frames[0], (192, 192), interpolation=cv2.INTER_AREA)
    assert np.abs(sheet[:192, :192].astype(int) - source).max() <= 1


def test_the_reenactment_shows_the_driving_clip_beside_what_was_made_of_it(demo):
    path = demo[1] / "reenactment.mp4"
    assert path in demo[0].files
    assert probe_video(str(path)).fps == 25
    frames = np.stack(list(read_frames(path, 25)))
    assert frames.shape == (6, 256, 3 * 256, 3)
    driving, same, other = np.split(frames.astype(int), 3, 2)
    assert np.abs(driving - clip(7, 26, 256)[:6]).mean() < 4
    assert np.abs(same - driving).mean() < 8 < np.abs(other - driving).mean()


def test_without_faces_there_are_no_figures_of_mouth_and_eyes(tmp_path):
    metrics = look(new_autoencoder(SMALL, 0), HeldOut([faceless("nobody")]), tmp_path, CPU).metrics
    assert "mouth_gain_db" not in metrics
    assert metrics["psnr_db"] > 0


def test_a_motion_that_tells_the_jaw_is_told_from_one_that_does_not(tmp_path):
    random = np.random.default_rng(0)
    motion = random.normal(size=(60, 20)).astype(np.float32)
    opening = motion @ random.normal(size=20).astype(np.float32)
    assert left_out_r2(motion, opening) > 0.99
    assert left_out_r2(motion, random.normal(size=60).astype(np.float32)) < 0.2
    frames = clip(0, 80, 64)
    many = [FramePair("c", None, frames[[k, k + 40]]) for k in range(40)]
    assert "jaw_r2" in look(new_autoencoder(SMALL, 0), HeldOut(many), tmp_path, CPU).metrics
    assert "jaw_r2" not in look(new_autoencoder(SMALL, 0), HeldOut(many[:39]), tmp_path, CPU).metrics


def test_a_model_in_training_stays_so_and_none_to_look_at_is_refused(tmp_path):
    model = new_autoencoder(SMALL, 0).train()
    look(model, HeldOut(pairs(1)), tmp_path, CPU)
    assert model.training
    with pytest.raises(BadInput, match="no held-out pairs"):
        look(model, HeldOut([]), tmp_path, CPU)
