"""Training checkpoints: nested states of tensors and plain values as safetensors pieces of at most 15 MB.

A checkpoint is a folder `step-00001234/` with `checkpoint.json` (the nested structure, with every tensor replaced by
a reference) and `part-000.safetensors`, ... It is written beside its final name and renamed, so a folder with that
name is always whole. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ifmdm_core.errors import BadInput, NotFound

PIECE_BYTES = 15_000_000
_KEY, _LIST = "__tensor__", "__tuple__"


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON form of a nested value; tensors are moved into `tensors` and referred to by name."""
    if isinstance(value, Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = value.detach().cpu().contiguous()
        return {_KEY: name, "shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, dict):
        return {"__dict__": [[key, _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {_LIST: [_pack(item, tensors) for item in value]}
    if isinstance(value, list):
        return [_pack(item, tensors) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a checkpoint holds tensors and plain values, not {type(value).__name__}")


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if isinstance(value, dict):
        if _KEY in value:
            return tensors[value[_KEY]].reshape(value["shape"])
        if _LIST in value:
            return tuple(_unpack(item, tensors) for item in value[_LIST])
        return {key: _unpack(item, tensors) for key, item in value["__dict__"]}
    return value


def save_state(folder: str | Path, state: dict[str, Any], piece_bytes: int = PIECE_BYTES) -> None:
    """Writes `state` (nested dicts, lists, tuples of tensors and plain values) as a checkpoint folder."""
    folder = Path(folder)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tensors: dict[str, Tensor] = {}
    structure = _pack(state, tensors)
    pieces: list[dict[str, Tensor]] = [{}]
    room = piece_bytes
    for name, tensor in tensors.items():
        flat = tensor.reshape(-1)
        step = max(1, piece_bytes // flat.element_size())
        for start in range(0, max(1, flat.numel()), step):
            chunk = flat[start : start + step].clone()  # safetensors refuses tensors that share memory
            size = chunk.numel() * chunk.element_size()
            if size > room and pieces[-1]:
                pieces.append({})
                room = piece_bytes
            pieces[-1][f"{name}@{start}"] = chunk
            room -= size
    for number, piece in enumerate(pieces):
        save_file(piece, partial / f"part-{number:03d}.safetensors")
    (partial / "checkpoint.json").write_text(json.dumps({"pieces": len(pieces), "state": structure}))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def load_state(folder: str | Path) -> dict[str, Any]:
    """Reads what `save_state` wrote, on the CPU.

    Raises NotFound when there is no checkpoint there, BadInput when a piece of it is missing.
    """
    folder = Path(folder)
    index = folder / "checkpoint.json"
    if not index.is_file():
        raise NotFound(f"no checkpoint in {folder}", fix="give a folder step-... that a training wrote")
    record = json.loads(index.read_text())
    chunks: dict[str, list[tuple[int, Tensor]]] = {}
    for number in range(record["pieces"]):
        piece = folder / f"part-{number:03d}.safetensors"
        if not piece.is_file():
            raise BadInput(f"{folder} lacks {piece.name} of {record['pieces']} pieces", fix="copy all pieces")
        for key, chunk in load_file(piece).items():
            name, start = key.split("@")
            chunks.setdefault(name, []).append((int(start), chunk))
    tensors = {
        name: torch.cat([c for _, c in sorted(parts, key=lambda p: p[0])]) for name, parts in chunks.items()
    }
    state = _unpack(record["state"], tensors)
    assert isinstance(state, dict)
    return state


def checkpoints(folder: str | Path) -> list[Path]:
    """Whole checkpoints under `folder`, oldest first."""
    return sorted(
        p for p in Path(folder).glob("step-*") if (p / "checkpoint.json").is_file() and p.suffix == ""
    )
