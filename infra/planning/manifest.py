"""The jobs of a manifest, as far as a plan needs them: whose they are, how long they speak, steps and size."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

from ifmdm_core.errors import BadInput, NotFound
from infra.planning.workload import PlannedJob


def read_manifest(path: Path) -> list[PlannedJob]:
    """The jobs of a manifest: a column `speech_seconds`, or `audio` files of this machine; `tenant`, `steps`, `size`.

    Takes manifests of `ifmdm jobs submit` as they are: `controls.steps` and `controls.size` mean the same, and what
    does not matter here is passed over. CSV or JSON Lines.

    Raises NotFound, BadInput naming the row.
    """
    return [_planned(number, row, path) for number, row in enumerate(_rows(path), start=1)]


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"there is no manifest {str(path)!r}", fix="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read the manifest {str(path)!r}: {error}") from None
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        try:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as error:
            raise BadInput(f"{str(path)!r} is not JSON Lines: {error}") from None
    else:
        rows = list(csv.DictReader(text.splitlines()))
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise BadInput(
            f"{str(path)!r} has no rows", fix="a heading with speech_seconds, and a row for each job"
        )
    return rows


def _planned(number: int, row: dict[str, Any], path: Path) -> PlannedJob:
    controls = row.get("controls") or {}
    steps = row.get("controls.steps") or row.get("steps") or controls.get("steps") or 8
    size = row.get("controls.size") or row.get("size") or controls.get("size") or None
    try:
        return PlannedJob(
            tenant=str(row.get("tenant") or "default"),
            speech_s=_speech_s(row),
            steps=_whole(steps, "steps"),
            size=None if size is None else _whole(size, "size"),
        )
    except BadInput as error:
        error.what = f"{path}: row {number}: {error.what}"
        raise


def _speech_s(row: dict[str, Any]) -> float:
    given = row.get("speech_seconds")
    if given in (None, ""):
        audio = str(row.get("audio") or "")
        if not audio or audio.startswith("s3://"):
            raise BadInput(
                "how long it speaks is not known",
                fix="add a column speech_seconds, or audio files of this machine",
            )
        from ifmdm_core.media.audio import read_audio

        sound = read_audio(audio)
        try:
            return sound.duration
        finally:
            sound.close()
    try:
        seconds = float(given)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 < seconds <= 36_000:
        raise BadInput(f"speech_seconds is {given!r}", fix="a number of seconds above 0")
    return seconds


def _whole(value: Any, name: str) -> int:
    try:
        found = int(value)
    except (TypeError, ValueError):
        found = 0
    if found < 1:
        raise BadInput(f"{name} is {value!r}", fix="a whole number above 0")
    return found
