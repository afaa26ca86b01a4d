"""Finished rows in the evaluation's folder, so that an evaluation that was stopped goes on where it was.

rows/<clip>/<key>.json (+ .safetensors)      figures of one row on one clip, by the digest of what made them
measured/<key>.json                           tables of one measuring step
videos/<row>/<clip>.mp4
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ifmdm_core.media.files import published
from ifmdm_core.metrics.tables import Table
from ifmdm_core.provenance import sha256_of_file
from pipelines.dataset.ids import digest
from pipelines.evaluate.examiner import ClipJob, ClipResult, RowResult
from pipelines.evaluate.rows import Row

VERSION = 1
"""Of what rows mean; another one measures everything again."""
RENDERED = ("ours", "shuffled", "decoder")
"""Kinds of rows that depend on the bundle."""


class Finished:
    """The folder of one evaluation.

    Args:
        settings: digest of everything that changes figures but the bundle, the clip and the row.
    """

    def __init__(self, folder: Path, bundle: str, settings: str) -> None:
        self.folder, self.bundle, self.settings = folder, bundle, settings

    def key(self, job: ClipJob, row: Row) -> str:
        """What a row's figures on a clip depend on. For a folder's video that is its file's content."""
        video = row.videos.get(job.clip.name)
        strangers = [clip.content for clip in job.strangers] if row.kind in ("truth", "shuffled") else []
        return digest(
            VERSION, self.settings, self.bundle if row.kind in RENDERED else "", job.clip.content, strangers,
            row.model_dump(mode="json", exclude={"videos", "table", "name"}), sha256_of_file(video) if video else "",
        )  # fmt: skip

    def get(self, job: ClipJob, row: Row) -> tuple[RowResult, NDArray[np.float32] | None] | None:
        """A row's figures and features; None where it is to be done."""
        path = self._path(job, row)
        if row.name in job.videos and not self.video(row.name, job.clip.name).is_file():
            return None
        try:
            result = RowResult.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None
        features = None
        if (stored := path.with_suffix(".safetensors")).is_file():
            from safetensors.numpy import load_file

            features = load_file(stored)["features"]
        return result, features

    def keep(self, job: ClipJob, result: ClipResult) -> None:
        """Write what a job gave; the JSON last. A row without figures is tried again next time."""
        from safetensors.numpy import save

        for row in job.rows:
            found = result.rows.get(row.name)
            if found is None or found.error:
                continue
            path = self._path(job, row)
            if (video := result.videos.get(row.name)) is not None:
                _write(self.video(row.name, job.clip.name), video)
            if (features := result.features.get(row.name)) is not None:
                _write(path.with_suffix(".safetensors"), save({"features": features}))
            _write(path, found.model_dump_json().encode())

    def video(self, row: str, clip: str) -> Path:
        """Where a row's video of a clip lies."""
        return self.folder / "videos" / slug(row) / f"{slug(clip)}.mp4"

    def tables(self, step: str, clips: str, effort: str) -> list[Table] | None:
        """Tables of a measuring step; None where it is to be done."""
        try:
            stored = json.loads(self._step(step, clips, effort).read_bytes())
            return [Table.model_validate(table) for table in stored]
        except (OSError, ValueError):
            return None

    def keep_tables(self, step: str, clips: str, effort: str, tables: list[Table]) -> None:
        """Write what a measuring step gave."""
        text = json.dumps([table.model_dump(mode="json") for table in tables], indent=1)
        _write(self._step(step, clips, effort), text.encode())

    def _path(self, job: ClipJob, row: Row) -> Path:
        return self.folder / "rows" / slug(job.clip.name) / f"{self.key(job, row)}.json"

    def _step(self, step: str, clips: str, effort: str) -> Path:
        key = digest(VERSION, self.settings, self.bundle, step, clips, effort, length=16)
        return self.folder / "measured" / f"{slug(step)}-{key}.json"


def slug(name: str) -> str:
    """A name as a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "unnamed"


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with published(path) as temporary:
        temporary.write_bytes(data)
