"""One network as one safetensors file that says what it is: configuration and lineage are in its header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ifmdm_core.errors import BadInput, NotFound

C = TypeVar("C", bound=BaseModel)
M = TypeVar("M", bound=nn.Module)


def save_weights(
    path: str | Path,
    module: nn.Module,
    config: BaseModel,
    lineage: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Writes parameters and buffers; floating ones as `dtype` (half the size; values must fit it)."""
    tensors = {}
    for name, value in module.state_dict().items():
        value = value.detach().cpu()
        value = value.to(dtype) if value.is_floating_point() else value
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} is not finite as {dtype}")
        tensors[name] = value.contiguous().clone()
    metadata = {"config": config.model_dump_json(), "lineage": json.dumps(dict(lineage or {}))}
    save_file(tensors, Path(path), metadata)
    _order_metadata(Path(path))


def _order_metadata(path: Path) -> None:
    """Metadata by name: safetensors writes it in a random order, and equal weights must be equal files."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= size
        file.seek(8)
        file.write(text.ljust(size))


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, str]]:
    """Tensors (floating ones as float32), configuration and lineage of a file that `save_weights` wrote.

    Raises NotFound, or BadInput when the file is not safetensors or says nothing about itself.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFound(f"no weights at {path}", fix="check the path")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path} is not a safetensors file: {error}", fix="download it again") from None
    if "config" not in metadata:
        raise BadInput(f"{path} holds no configuration", fix="use a file written by this project's training")
    tensors = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    return tensors, json.loads(metadata["config"]), json.loads(metadata.get("lineage", "{}"))


def load_network(path: str | Path, config: type[C], network: Callable[[C], M]) -> M:
    """The network in a file of `save_weights`, e.g. `load_network(path, AutoencoderConfig, Autoencoder)`.

    Float32 on the CPU, in eval mode, without gradients. Raises NotFound, or BadInput when the file is no such network.
    """
    tensors, values, _ = read_weights(path)
    try:
        model = network(config(**values))
        model.load_state_dict(tensors)
    except (ValidationError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(
            f"{path} does not fit this version: {reason}", fix="get the file, or the bundle it is in, again"
        ) from None
    return model.eval().requires_grad_(False)


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names and float16 values: the same for weights in memory and as stored, -0 being 0."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu()
        value = value.half() + 0.0 if value.is_floating_point() else value
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def encoder_digest(state: Mapping[str, Tensor]) -> str:
    """Digest of what makes motion vectors, of an autoencoder's state: its motion encoder.

    The rest (motion basis, flow fields, generator) may improve without making motion datasets or generators stale.
    """
    return tensor_digest({k: v for k, v in state.items() if k.startswith("motion_encoder.")})
