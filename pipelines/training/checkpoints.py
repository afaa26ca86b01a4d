"""Checkpoints of a run in storage: whole or not there, checked by digest, thinned out, orphans collected.

    checkpoints/step-00001234/part-000-<sha8>.safetensors
                              checkpoint.json          last, create-only: the commit

A part's name has its digest in it, so a writer that should have ended long ago cannot spoil what another committed.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ifmdm_core.errors import BadInput, Conflict, NotFound, Unavailable, Unsupported
from ifmdm_core.provenance import sha256_of_file
from ifmdm_core.storage import Storage
from pipelines.dataset.manifest import utc_now

CHECKPOINT_FORMAT = 1
_ROOT, _RECORD = "checkpoints/", "checkpoint.json"


class KeepConfig(BaseModel):
    """Which checkpoints stay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_last: int = Field(2, ge=1, description="newest checkpoints kept")
    keep_best: int = Field(1, ge=0, description="checkpoints kept for their validation figure")
    metric: str | None = Field(None, description="that figure; null: the stage's own")
    mode: Literal["min", "max"] | None = Field(None, description="which is better; null: the stage's own")


class CheckpointRecord(BaseModel):
    """checkpoint.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = CHECKPOINT_FORMAT
    step: int
    created: str = Field(description="UTC")
    attempt: int = Field(description="which attempt wrote it")
    metrics: dict[str, float] = Field(
        default_factory=dict, description="validation figures of this very step"
    )
    parts: dict[str, str] = Field(description="file name -> sha256, in order")
    sizes: dict[str, int] = Field(description="file name -> bytes")
    structure: str = Field(description="the state with tensors replaced by references, JSON")


class Checkpoint(BaseModel):
    """A whole checkpoint and the digest of its record, hence of everything in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    record: CheckpointRecord
    digest: str

    @property
    def key(self) -> str:
        return f"{_ROOT}{_folder(self.record.step)}"


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def write(self, step: int, state: dict[str, Any], metrics: dict[str, float], attempt: int) -> Checkpoint:
        """Make `state` durable; the checkpoint exists when this returns.

        Another writer may have been first with this step: then theirs stays, and is returned.
        """
        from ifmdm_core.training.checkpoint import save_state

        with tempfile.TemporaryDirectory(prefix="ifmdm-checkpoint-") as scratch:
            local = Path(scratch) / "state"
            save_state(local, state)
            parts, sizes = {}, {}
            for path in sorted(local.glob("part-*.safetensors")):
                sha256 = sha256_of_file(path)
                name = f"{path.stem}-{sha256[:8]}{path.suffix}"
                self.storage.upload(f"{_ROOT}{_folder(step)}/{name}", path)
                parts[name], sizes[name] = sha256, path.stat().st_size
            record = CheckpointRecord(
                step=step, created=utc_now(), attempt=attempt, metrics=metrics, parts=parts, sizes=sizes,
                structure=(local / "checkpoint.json").read_text(),
            )  # fmt: skip
        data = record.model_dump_json().encode()
        try:
            won = self.storage.put_if_absent(f"{_ROOT}{_folder(step)}/{_RECORD}", data)
        except Unavailable:
            won = False  # read back whose it is
        return Checkpoint(record=record, digest=_digest(data)) if won else self._read(step)

    def steps(self) -> list[int]:
        """Steps of the whole checkpoints, in order."""
        return [step for step, names in sorted(self._listed().items()) if _RECORD in names]

    def newest(self) -> Checkpoint | None:
        """The newest whole checkpoint; None where there is none."""
        steps = self.steps()
        return self.at(steps[-1]) if steps else None

    def at(self, step: int) -> Checkpoint:
        """The whole checkpoint of a step.

        Raises:
            NotFound: there is none.
        """
        return self._read(step)

    def load(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """The state of a checkpoint, on the CPU.

        Raises:
            Conflict: a part is missing or damaged.
        """
        from ifmdm_core.training.checkpoint import load_state

        with tempfile.TemporaryDirectory(prefix="ifmdm-checkpoint-") as scratch:
            local = Path(scratch)
            for number, (name, sha256) in enumerate(checkpoint.record.parts.items()):
                path = local / f"part-{number:03d}.safetensors"
                key = f"{checkpoint.key}/{name}"
                try:
                    self.storage.fetch(key, path)
                except NotFound:
                    raise _damaged(f"{self.storage.root}/{key} is missing", checkpoint) from None
                found = sha256_of_file(path)
                if found != sha256:
                    raise _damaged(
                        f"{self.storage.root}/{key} has sha256 {found}, its record says {sha256}", checkpoint
                    )
            (local / "checkpoint.json").write_text(checkpoint.record.structure)
            return load_state(local)

    def thin_out(self, keep: KeepConfig) -> list[int]:
        """Delete what `keep` does not want, and orphans older than the newest; the steps that went."""
        whole = self.steps()
        wanted = set(whole[-keep.keep_last :])
        if keep.keep_best and keep.metric:
            scored = []
            for step in whole:
                value = self._read(step).record.metrics.get(keep.metric)
                if value is not None:
                    scored.append((value if keep.mode == "max" else -value, step))
            wanted.update(step for _, step in sorted(scored)[-keep.keep_best :])
        gone = [step for step in whole if step not in wanted]
        for step in gone:
            self.delete(step)
        self.collect_orphans()
        return gone

    def collect_orphans(self) -> list[str]:
        """Delete files that no record names, up to the newest whole checkpoint; their keys.

        Behind that one, somebody who is not dead yet may still be writing.
        """
        gone = []
        listed = self._listed()
        newest = max((step for step, names in listed.items() if _RECORD in names), default=-1)
        for step, names in listed.items():
            if step > newest:
                continue
            named = {*self._read(step).record.parts, _RECORD} if _RECORD in names else set()
            for name in sorted(set(names) - named):
                gone.append(f"{_ROOT}{_folder(step)}/{name}")
                self.storage.delete(gone[-1])
        return gone

    def delete(self, step: int) -> None:
        """Remove a checkpoint: its record first, so that what is left after a crash is an orphan."""
        folder = f"{_ROOT}{_folder(step)}/"
        self.storage.delete(folder + _RECORD)
        for item in list(self.storage.list(folder)):
            self.storage.delete(item.key)
        local = self.storage.local_path(folder + _RECORD)
        if local is not None:
            with suppress(OSError):  # somebody may be writing into it
                local.parent.rmdir()

    def _listed(self) -> dict[int, list[str]]:
        found: dict[int, list[str]] = defaultdict(list)
        for item in self.storage.list(_ROOT):
            folder, _, name = item.key.removeprefix(_ROOT).partition("/")
            if folder.startswith("step-") and folder[5:].isdecimal():
                found[int(folder[5:])].append(name)
        return found

    def _read(self, step: int) -> Checkpoint:
        key = f"{_ROOT}{_folder(step)}/{_RECORD}"
        name = f"{self.storage.root}/{key}"
        data = self.storage.get(key)
        try:
            values = json.loads(data)
            if values.get("format") != CHECKPOINT_FORMAT:
                raise Unsupported(
                    f"{name} has checkpoint format {values.get('format')!r}, this program reads {CHECKPOINT_FORMAT}",
                    fix="update ifmdm",
                )
            return Checkpoint(record=CheckpointRecord.model_validate(values), digest=_digest(data))
        except (ValueError, AttributeError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise BadInput(f"{name} is no checkpoint's record: {reason}", fix=f"delete {name}") from None


def _folder(step: int) -> str:
    return f"step-{step:08d}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _damaged(what: str, checkpoint: Checkpoint) -> Conflict:
    return Conflict(what, fix=f"delete {checkpoint.key}/{_RECORD} to go on from the checkpoint before it")
