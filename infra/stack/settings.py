"""What a stack is started with: what runs, what is asked for, and the service's configuration made of both."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ifmdm_core.config import load_config
from ifmdm_core.errors import BadInput, Conflict
from infra.stack.home import Home
from infra.stack.state import Settings

if TYPE_CHECKING:
    from serve.config import ServeConfig

_OPTIONS = {"s3": "--s3", "workers": "--workers", "serve": "--serve", "changes": "--set"}
_EXTRAS = {"moto": "dev", "werkzeug": "dev", "gradio": "studio"}
"""Package -> the extra that has it, where it is not `cluster`."""


@dataclass(frozen=True)
class Asked:
    """What the options of `ifmdm up` say; None: nothing."""

    s3: bool | None = None
    workers: int | None = None
    serve: Path | None = None
    changes: Sequence[str] | None = None

    def over(self, before: Settings | None, runs: bool) -> Settings:
        """The settings of a stack of which `before` was asked.

        Raises Conflict where it runs and would have to be another one.
        """
        given: dict[str, Any] = {
            "s3": self.s3,
            "workers": self.workers,
            "serve": None if self.serve is None else str(self.serve.expanduser().absolute()),
            "changes": tuple(self.changes) if self.changes else None,
        }
        given = {name: value for name, value in given.items() if value is not None}
        if before is None:
            return Settings(**given)
        other = [name for name, value in given.items() if getattr(before, name) != value]
        if other and runs:
            name = other[0]
            raise Conflict(
                f"this stack runs with {_OPTIONS[name]} {_shown(getattr(before, name))}, not {_shown(given[name])}",
                fix="ifmdm down ends it, then start it anew",
            )
        return before.model_copy(update=given)


def serve_config(home: Home, settings: Settings) -> ServeConfig:
    """The service's configuration with whole paths, its data in the stack's folder.

    Raises as `load_config` and `infra.app.resolved`.
    """
    from infra.app import resolved
    from serve.config import ServeConfig

    first = [f"root={home.service}"]
    if (
        settings.serve is None
    ):  # a laptop's: one replica of each stage, the decoder with two cores when it is alone
        first.append(f"decoder.threads={min(2, os.cpu_count() or 1)}")
    config = load_config(ServeConfig, settings.serve, [*first, *settings.changes])
    if config.model.startswith("models:"):  # the service looks it up itself, once MLflow runs
        return resolved(config.model_copy(update={"model": "demo"})).model_copy(
            update={"model": config.model}
        )
    return resolved(config)


def require_packages(packages: Iterable[str]) -> None:
    """Raises BadInput with what to install, where one of them is missing."""
    missing = sorted({name for name in packages if importlib.util.find_spec(name) is None})
    if missing:
        extras = ",".join(sorted({"cluster", *(_EXTRAS.get(name, "cluster") for name in missing)}))
        raise BadInput(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed",
            fix=f"pip install 'ifmdm[render,{extras}]'",
        )


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
