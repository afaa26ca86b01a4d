"""One function per command, for notebooks and scripts; nothing heavy is imported before it is used.

from pipelines import api

result = api.train("motion", "configs/demo/motion.yaml", overrides=["data.dataset=datasets/demo"])
result                                            # a table in a notebook
api.runs("runs")                                  # ifmdm train ls
api.make_bundle("bundles/new", name="new", autoencoder=..., motion=result.run, speech=...)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_LAZY = {
    "Launch": "pipelines.training.driver",
    "train": "pipelines.training.launch",
    "resume": "pipelines.training.launch",
    "runs": "pipelines.training.listing",
    "sync": "pipelines.training.listing",
    "evaluate": "pipelines.evaluate.run",
    "make_bundle": "pipelines.registry.bundling",
    "register": "pipelines.registry.api",
    "promote": "pipelines.registry.api",
    "versions": "pipelines.registry.api",
    "show": "pipelines.registry.api",
    "compare": "pipelines.registry.api",
    "resolve": "pipelines.registry.api",
}

__all__ = [
    "Launch", "compare", "evaluate", "make_bundle", "promote", "register", "resolve", "resume", "runs", "show", "sync",
    "train", "versions",
]  # fmt: skip

if TYPE_CHECKING:
    from pipelines.evaluate.run import evaluate
    from pipelines.registry.api import compare, promote, register, resolve, show, versions
    from pipelines.registry.bundling import make_bundle
    from pipelines.training.driver import Launch
    from pipelines.training.launch import resume, train
    from pipelines.training.listing import runs, sync


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'pipelines.api' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
