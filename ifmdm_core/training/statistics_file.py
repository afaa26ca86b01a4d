"""What was fitted to the data before the first step, as one safetensors file beside a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ifmdm_core.errors import BadInput, NotFound


def save_statistics(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors, which may share memory."""
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, Path(path))


def load_statistics(path: str | Path, needed: Iterable[str]) -> dict[str, Tensor]:
    """What `save_statistics` wrote.

    Raises NotFound, or BadInput when it is no such file or lacks one of the `needed` tensors.
    """
    if not Path(path).is_file():
        raise NotFound(f"no statistics at {path}", fix="fit them on the dataset")
    try:
        tensors: dict[str, Tensor] = load_file(Path(path))
    except SafetensorError as error:
        raise BadInput(f"{path} is no safetensors file: {error}") from None
    missing = sorted(set(needed) - set(tensors))
    if missing:
        raise BadInput(f"{path} lacks {', '.join(missing)}", fix="fit the statistics again")
    return tensors
