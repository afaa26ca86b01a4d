"""Keeps a training in a folder: checkpoints `step-*`, `log.jsonl`, `samples/step-*`. What `fit` needs, no more."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ifmdm_core.training.checkpoint import checkpoints, load_state, save_state
from ifmdm_core.training.fit import StepRecord
from ifmdm_core.training.task import Validation


class FolderKeeper:
    """A `Keeper` on local disk; everything is durable when a call returns."""

    def __init__(self, folder: str | Path, keep: int = 2) -> None:
        """`keep` newest checkpoints stay."""
        self.folder, self.keep = Path(folder), keep
        self._resumed: int | None = None

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint; None where there is none. Figures of later steps will be made again."""
        found = checkpoints(self.folder)
        state = load_state(found[-1]) if found else None
        self._resumed = state["step"] if state else 0
        return state

    def save(self, step: int, state: dict[str, Any], metrics: dict[str, float]) -> None:
        save_state(self.folder / f"step-{step:08d}", state)
        for old in checkpoints(self.folder)[: -self.keep]:
            shutil.rmtree(old)

    def record(self, records: Sequence[StepRecord]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "log.jsonl"
        if self._resumed is not None:
            if log.is_file():
                kept = [line for line in log.read_text().splitlines() if _step(line) <= self._resumed]
                log.write_text("".join(f"{line}\n" for line in kept))
            self._resumed = None
        with log.open("a") as file:
            for record in records:
                line = {"step": record.step, "time": round(record.time, 3), **record.values}
                file.write(json.dumps(line) + "\n")

    def validated(self, step: int, validation: Validation) -> None:
        folder = self.folder / "samples" / f"step-{step:08d}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for path in validation.files:
            shutil.copyfile(path, folder / path.name)
        (folder / "metrics.json").write_text(json.dumps(validation.metrics, indent=1) + "\n")

    def finish(self) -> None:
        """Nothing is left to wait for."""


def _step(line: str) -> int:
    """Step of a log line; a line cut short by a crash counts as a later one."""
    try:
        return int(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return 2**62
