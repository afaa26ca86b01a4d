"""A pack carries a training set: same clips, same rows, nearly the same content, within its limit."""

import shutil
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest

from ifmdm_core.errors import BadInput
from ifmdm_core.training import pack as packing
from ifmdm_core.training.dataset import TrainingSet


@pytest.fixture(scope="module")
def packed(training_folder, tmp_path_factory):
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    folder = tmp_path_factory.mktemp("packing")
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, do_stable_layer_norm=True,
        feat_extract_norm="layer",
    )  # fmt: skip
    Wav2Vec2Model(config).save_pretrained(folder / "speech")
    size = packing.pack(training_folder, folder / "speech", folder / "pack")
    packing.unpack(folder / "pack", folder / "set")
    return folder, size


def test_it_is_within_its_limit_and_complete(packed):
    folder, size = packed
    assert size == sum(f.stat().st_size for f in (folder / "pack").iterdir())
    assert size < packing.MAX_PACK
    assert {f.name for f in (folder / "pack").iterdir()} == {
        "frames.mp4", "labels.npz", "face_model.npz", "index.json",
    }  # fmt: skip


def test_held_out_clips_stay_at_home(packed, training_set):
    again = TrainingSet(packed[0] / "set")
    assert [c.name for c in again.clips] == [c.name for c in training_set.clips if c.split == "train"]


def test_pictures_meshes_and_parameters_survive(packed, training_set):
    again = TrainingSet(packed[0] / "set")
    before = {c.name: c for c in training_set.clips}
    for clip in again.clips:
        rows, old = clip.rows, before[clip.name].rows
        difference = again.frame(clip.first).astype(int) - training_set.frame(old.start).astype(int)
        assert np.abs(difference).mean() < 6
        assert np.abs(again.landmarks[rows] - training_set.landmarks[old]).max() < 4 / 256
        assert np.abs(again.parameters[rows] - training_set.parameters[old]).mean() < 0.1
        np.testing.assert_allclose(
            again.blendshapes[rows], training_set.blendshapes[old].clip(0, 1), atol=0.003
        )


def test_speech_features_lie_beside_the_frames(packed):
    again = TrainingSet(packed[0] / "set")
    speech = np.load(packed[0] / "set" / "speech.npy")
    assert speech.shape == (len(again), 16)
    spoken = next(c for c in again.clips if c.kind != "portrait")
    assert np.abs(speech[spoken.rows]).max() > 0


def test_news_gives_way_when_room_is_short(training_set):
    chosen = packing.choose_clips(training_set.clips, 24 * 4 + 3)
    kinds = [c.kind for c in chosen]
    assert kinds.count("mixed") == 2
    assert kinds.count("portrait") == 3
    assert kinds.count("news") == 2


def test_a_cut_film_is_refused_by_name(packed, tmp_path):
    shutil.copytree(packed[0] / "pack", tmp_path / "pack")
    whole, film = packed[0] / "pack" / "frames.mp4", tmp_path / "pack" / "frames.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-i", whole, "-frames:v", "30", "-c", "copy", film]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(BadInput, match=r"frames\.mp4 ends within news/1\.mp4"):
        packing.unpack(tmp_path / "pack", tmp_path / "set")


def test_too_large_a_whole_is_refused(training_folder, packed, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "MAX_PACK", 100_000)
    with pytest.raises(BadInput, match="pack fewer --frames"):
        packing.pack(training_folder, packed[0] / "speech", tmp_path / "pack")


def test_a_large_repository_leaves_less_room(training_folder, packed, tmp_path):
    repository = tmp_path / "repository"
    repository.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=repository, check=True)
    (repository / "weights").write_bytes(bytes(packing.MAX_CARRIED - 20_000))
    subprocess.run(["git", "add", "weights"], cwd=repository, check=True)
    assert packing.tracked_size(repository) == packing.MAX_CARRIED - 20_000
    with pytest.raises(BadInput, match=r"of 0\.0 MB"):
        packing.pack(training_folder, packed[0] / "speech", tmp_path / "pack", repository=repository)
