"""The training set folder gives back what was written."""

import numpy as np
import pytest

from ifmdm_core.errors import NotFound
from ifmdm_core.training.dataset import TrainingSet


def test_rows_belong_to_their_clips(training_set):
    assert [c.num_frames for c in training_set.clips] == [24] * 8 + [1] * 3
    assert len(training_set) == sum(c.num_frames for c in training_set.clips)
    assert training_set.frame(0).shape == (256, 256, 3)
    assert training_set.frame(0, reduced=True).shape == (128, 128, 3)


def test_pictures_and_meshes_belong_together(training_set):
    """The drawn mouth is dark where the mesh says the mouth is, in every clip."""
    for clip in training_set.clips:
        picture, mesh = training_set.frame(clip.first), training_set.landmarks[clip.first]
        x, y = (mesh[[13, 14], :2].mean(0) * 256).astype(int)
        assert picture[y, x].mean() < 75


def test_sound_belongs_to_its_clip(training_set):
    sounds = [training_set.audio(c) for c in training_set.clips if c.kind != "portrait"]
    assert {len(s) for s in sounds} == {24 * 640}
    assert all(np.abs(s).max() <= 1 for s in sounds)
    assert len({s[:100].tobytes() for s in sounds}) == len(sounds)
    assert len(training_set.audio(training_set.speeches[0])) == 16000


def test_targets_are_motion_vectors(training_set):
    assert training_set.targets.shape == (len(training_set), 20)
    assert np.abs(training_set.targets).max() < 1


def test_a_folder_without_index_is_refused(tmp_path):
    with pytest.raises(NotFound, match=r"has no index\.json"):
        TrainingSet(tmp_path)
