"""Bundles: what is stored, and everything that must be refused before a byte of it is used."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from ifmdm_core.bundle import FORMAT, load_bundle, save_bundle
from ifmdm_core.errors import BadInput, Conflict, NotFound, Unsupported
from ifmdm_core.weights import encoder_digest, read_weights, save_weights


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def change_record(bundle: Path, **changes: object) -> None:
    index = bundle / "bundle.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | changes))


def test_networks_come_back_as_they_were_saved(tiny_bundle, tmp_path):
    loaded = load_bundle(tiny_bundle)
    autoencoder, motion = loaded.autoencoder(), loaded.motion()
    assert encoder_digest(autoencoder.state_dict()) == loaded.record.encoder == loaded.record.motion_encoder
    assert not autoencoder.training
    assert next(motion.parameters()).dtype == torch.float32
    save_weights(tmp_path / "again.safetensors", motion, motion.config)
    stored = read_weights(tiny_bundle / "motion.safetensors")[0]
    again = read_weights(tmp_path / "again.safetensors")[0]
    assert all(torch.equal(stored[name], again[name]) for name in stored)
    assert loaded.speech_encoder().dim == motion.config.speech_dim


def test_digest_of_the_bundle_follows_its_content(bundle, tiny_bundle):
    assert load_bundle(bundle).digest == load_bundle(tiny_bundle).digest
    change_record(bundle, licence="other")
    assert load_bundle(bundle).digest != load_bundle(tiny_bundle).digest


@pytest.mark.parametrize("name", ["autoencoder.safetensors", "motion.safetensors", "speech/config.json"])
def test_a_changed_file_is_refused_with_both_digests(bundle, name):
    recorded = json.loads((bundle / "bundle.json").read_text())["sha256"][name]
    with (bundle / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(Conflict, match=recorded) as error:
        load_bundle(bundle)
    assert str(error.value).count("sha256") == 1
    assert name in str(error.value)


@pytest.mark.parametrize(
    "name", ["model.pt", "pytorch_model.bin", "weights.pkl", "last.ckpt", "speech/optimizer.pth"]
)
def test_a_pickle_by_name_is_refused(bundle, name):
    (bundle / name).write_bytes(b"anything")
    with pytest.raises(BadInput, match="pickle"):
        load_bundle(bundle)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_in_disguise_is_refused_and_not_run(bundle, protocol, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    (bundle / "motion.safetensors").write_bytes(pickle.dumps(Bomb(), protocol))
    with pytest.raises(BadInput, match=r"motion\.safetensors is a pickle"):
        load_bundle(bundle)
    assert not (tmp_path / "ran").exists()


def test_torch_save_in_disguise_is_refused(bundle):
    torch.save({"a": torch.zeros(1)}, bundle / "motion.safetensors")
    with pytest.raises(BadInput, match="is a pickle"):
        load_bundle(bundle)


def test_files_outside_the_record_are_refused_but_notes_are_not(bundle):
    (bundle / "README.md").write_text("hello")
    load_bundle(bundle)
    (bundle / "extra.json").write_text("{}")
    with pytest.raises(BadInput, match=r"extra\.json is not in"):
        load_bundle(bundle)


def test_an_unknown_version_is_refused_with_both(bundle):
    change_record(bundle, format=FORMAT + 1)
    with pytest.raises(Unsupported, match=f"{FORMAT + 1}.* reads {FORMAT}"):
        load_bundle(bundle)


def test_another_encoder_is_refused_with_both(bundle, make_bundle, tmp_path):
    other = make_bundle(tmp_path / "other", seed=1)
    with pytest.raises(Conflict) as error:
        save_bundle(
            tmp_path / "mixed",
            name="mixed",
            autoencoder=other / "autoencoder.safetensors",
            motion=bundle / "motion.safetensors",
            speech=bundle / "speech",
        )
    assert load_bundle(bundle).record.encoder in str(error.value)
    assert load_bundle(other).record.encoder in str(error.value)


def test_a_record_that_lies_about_its_encoder_is_refused(bundle):
    change_record(bundle, encoder="0" * 64, motion_encoder="0" * 64)
    with pytest.raises(Conflict, match="0000"):
        load_bundle(bundle).autoencoder()


@pytest.mark.parametrize(
    ("content", "told"),
    [("{", "not JSON"), ("[]", "bundle format None"), (json.dumps({"format": 1, "name": "x"}), "sha256")],
)
def test_an_unreadable_record(bundle, content, told):
    (bundle / "bundle.json").write_text(content)
    with pytest.raises((BadInput, Unsupported), match=told):
        load_bundle(bundle)


def test_an_unknown_field_in_the_record_is_refused(bundle):
    change_record(bundle, colour="red")
    with pytest.raises(BadInput, match="colour"):
        load_bundle(bundle)


def test_missing_parts(bundle, tmp_path):
    (bundle / "motion.safetensors").unlink()
    with pytest.raises(BadInput, match=r"lacks motion\.safetensors"):
        load_bundle(bundle)
    with pytest.raises(NotFound, match="nowhere"):
        load_bundle(tmp_path / "nowhere")


def test_weights_of_another_shape_are_told(tiny_bundle, bundle):
    """A file whose configuration does not fit its tensors."""
    motion = load_bundle(tiny_bundle).motion()
    config = motion.config.model_copy(update={"depth": 1})
    save_weights(bundle / "motion.safetensors", motion, config)
    record = json.loads((bundle / "bundle.json").read_text())
    from ifmdm_core.provenance import sha256_of_file

    record["sha256"]["motion.safetensors"] = sha256_of_file(bundle / "motion.safetensors")
    (bundle / "bundle.json").write_text(json.dumps(record))
    with pytest.raises(BadInput, match="does not fit"):
        load_bundle(bundle).motion()
