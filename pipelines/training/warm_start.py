"""Weights that a training starts from: found, and refused when they do not fit, before anything runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ifmdm_core.bundle import load_bundle
from ifmdm_core.errors import BadInput, Conflict
from ifmdm_core.provenance import sha256_of_file
from pipelines.training.config import StartConfig


@dataclass(frozen=True)
class StartWeights:
    """A weights file and what it says of itself."""

    where: str
    """The setting and its value, for messages."""
    path: Path
    config: dict[str, Any]
    lineage: dict[str, str]
    digest: str
    """sha256 of the file."""

    def require_fit(self, model: BaseModel, what: str) -> None:
        """Raises Conflict when the weights are of a network of another shape."""
        wanted = model.model_dump(mode="json")
        have = {**wanted, **self.config}
        for name, value in wanted.items():
            if have[name] != value:
                raise Conflict(
                    f"{self.where} was trained with model.{name} {have[name]!r}, this {what} training has {value!r}",
                    fix=f"set model.{name} to {have[name]!r}, or start without it",
                )

    def require_encoder(self, own: str | None, wanted: str | None, features: str) -> None:
        """Raises Conflict when the weights belong to another motion encoder than the features."""
        if own is not None and own != wanted:
            raise Conflict(
                f"{self.where} belongs to the motion encoder {own}, {features} was made by {wanted}",
                fix="start from weights of that encoder, or choose other features with data.motion",
            )


def find_start(start: StartConfig, name: str) -> StartWeights | None:
    """The file `name` of the bundle, or the weights file; None without either.

    Raises:
        NotFound: nothing there. BadInput: it is no such file. Conflict: the bundle is damaged.
    """
    from ifmdm_core.weights import read_weights

    if start.bundle is not None:
        path, where = load_bundle(start.bundle).folder / name, f"start.bundle {start.bundle}"
    elif start.weights is not None:
        path, where = Path(start.weights), f"start.weights {start.weights}"
        if not path.is_file():
            raise BadInput(f"{where} is no file", fix=f"give a {name} that a training exported")
    else:
        return None
    _, config, lineage = read_weights(path)
    return StartWeights(where, path, config, lineage, sha256_of_file(path))


def copy_into(start: StartWeights | None, target: Path) -> None:
    """Keep the weights with the run."""
    if start is not None:
        shutil.copyfile(start.path, target)


def parameters(network: Callable[[Any], Any], config: BaseModel) -> int:
    """Numbers in a network, which is not built in memory."""
    import torch

    with torch.device("meta"):
        return sum(p.numel() for p in network(config).parameters())
