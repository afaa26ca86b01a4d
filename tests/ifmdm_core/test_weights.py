"""Single network files."""

from __future__ import annotations

import pytest
import torch
from pydantic import BaseModel
from torch import nn

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.weights import load_network, read_weights, save_weights, tensor_digest


class Config(BaseModel):
    width: int = 3


def test_round_trip_with_configuration_and_lineage(tmp_path):
    module = nn.BatchNorm1d(3)
    save_weights(tmp_path / "w.safetensors", module, Config(), {"data": "x"})
    tensors, config, lineage = read_weights(tmp_path / "w.safetensors")
    assert config == {"width": 3}
    assert lineage == {"data": "x"}
    assert tensors["num_batches_tracked"].dtype == torch.int64
    assert tensors["weight"].dtype == torch.float32


def test_equal_weights_are_equal_files(tmp_path):
    module = nn.Linear(4, 4)
    written = set()
    for number in range(8):
        save_weights(tmp_path / f"{number}", module, Config(), {"b": "\u00e9", "a": "2"})
        written.add((tmp_path / f"{number}").read_bytes())
    assert len(written) == 1
    assert read_weights(tmp_path / "0")[2] == {"b": "\u00e9", "a": "2"}


def test_values_that_float16_cannot_hold_are_not_written(tmp_path):
    module = nn.Linear(1, 1)
    nn.init.constant_(module.weight, 1e6)
    with pytest.raises(ValueError, match="weight"):
        save_weights(tmp_path / "w.safetensors", module, Config())
    save_weights(tmp_path / "w.safetensors", module, Config(), dtype=torch.float32)


def test_digest_is_the_same_in_memory_and_as_stored(tmp_path):
    module = nn.Linear(4, 4)
    save_weights(tmp_path / "w.safetensors", module, Config())
    assert tensor_digest(read_weights(tmp_path / "w.safetensors")[0]) == tensor_digest(module.state_dict())
    changed = {**module.state_dict(), "bias": module.bias + 1}
    assert tensor_digest(changed) != tensor_digest(module.state_dict())


def test_faults(tmp_path):
    with pytest.raises(NotFound):
        read_weights(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense" * 10)
    with pytest.raises(BadInput, match="not a safetensors"):
        read_weights(tmp_path / "bad.safetensors")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(BadInput, match="no configuration"):
        read_weights(tmp_path / "plain.safetensors")


def test_minus_zero_is_zero_in_a_digest():
    """Averaging weights can turn -0 into 0; the encoder is the same."""
    assert tensor_digest({"a": torch.tensor([-0.0, 1.0])}) == tensor_digest({"a": torch.tensor([0.0, 1.0])})
    assert tensor_digest({"a": torch.tensor([0.0, 1.0])}) != tensor_digest({"a": torch.tensor([0.0, 1.1])})


def test_a_network_is_built_from_its_own_configuration(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, nn.Linear(3, 3), Config(width=3))

    def build(config: Config) -> nn.Linear:
        return nn.Linear(config.width, config.width)

    model = load_network(path, Config, build)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(BadInput, match="does not fit this version"):
        load_network(path, Config, lambda config: nn.Linear(config.width, 4))

    class Older(BaseModel, extra="forbid"):
        depth: int = 1

    with pytest.raises(BadInput, match="does not fit this version"):
        load_network(path, Older, lambda config: nn.Linear(3, 3))
