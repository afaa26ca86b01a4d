"""The jobs of a plan: from a manifest, all alike, or arriving over a day by tenants with habits of their own."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.errors import BadInput
from infra.planning.rates import FPS

DAY_S = 86_400.0
SPEECH_LEAST_S, SPEECH_MOST_S = 0.5, 120.0


@dataclass(frozen=True)
class PlannedJob:
    """One render."""

    tenant: str
    speech_s: float
    steps: int = 8
    size: int | None = None
    """Side of the output in pixels; None is the model's own."""

    @property
    def frames(self) -> float:
        return self.speech_s * FPS


class TenantHabits(BaseModel):
    """When one tenant's jobs come."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(pattern="^[a-z0-9][a-z0-9._-]{0,62}$", description="of the tenant")
    share: float = Field(gt=0, description="part of all jobs, beside the others' shares")
    weight: float = Field(1.0, gt=0, le=1000, description="share of the machines; see tenants/<t>.json")
    swing: float = Field(
        0.0, ge=0, le=1, description="0 is the same load at every hour, 1 nothing at the quietest"
    )
    peak_hour: float = Field(15.0, ge=0, lt=24, description="hour of the day with the most")
    bursts: float = Field(
        0.0, ge=0, description="bursts a day that all of its jobs come in; 0: one by one, at random"
    )
    burst_s: float = Field(300.0, gt=0, description="seconds that a burst takes to be handed in")

    def rate(self, at: float) -> float:
        """Relative to its mean, at so many seconds after midnight; bursts aside."""
        return 1 + self.swing * math.cos(2 * math.pi * (at / 3600 - self.peak_hour) / 24)


def arrivals(
    tenants: Sequence[TenantHabits], per_day: float, seconds: float, chance: random.Random
) -> Iterator[tuple[float, str]]:
    """(seconds after midnight, tenant) of every job until so many seconds have passed, in order."""
    shares = sum(tenant.share for tenant in tenants)
    streams = []
    for tenant in tenants:
        own = random.Random(chance.getrandbits(64))
        count = per_day * tenant.share / shares
        streams.append(
            _bursts(tenant, count, seconds, own) if tenant.bursts else _singly(tenant, count, seconds, own)
        )
    yield from _merged(streams, [tenant.name for tenant in tenants])


def speech_seconds(mean: float, spread: float, chance: random.Random) -> float:
    """A length of speech: log-normal about `mean`, whose logarithm has the standard deviation `spread`."""
    drawn = mean * math.exp(chance.gauss(-spread * spread / 2, spread)) if spread else mean
    return min(SPEECH_MOST_S, max(SPEECH_LEAST_S, drawn))


def read_manifest(path: Path) -> list[PlannedJob]:
    """The jobs of a manifest: a column `speech_seconds`, or `audio` files of this machine; `tenant`, `steps`, `size`.

    Takes manifests of `ifmdm jobs submit` as they are: `controls.steps` and `controls.size` mean the same, and what
    does not matter here is passed over. CSV or JSON Lines.

    Raises NotFound, BadInput naming the row.
    """
    return [_planned(number, row, path) for number, row in enumerate(_rows(path), start=1)]


def _rows(path: Path) -> list[dict[str, Any]]:
    import csv
    import json

    from ifmdm_core.errors import NotFound

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


def _singly(tenant: TenantHabits, per_day: float, seconds: float, chance: random.Random) -> Iterator[float]:
    """A Poisson process whose rate follows the hour, thinned from its highest rate."""
    highest = per_day / DAY_S * (1 + tenant.swing)
    at = chance.expovariate(highest)
    while at < seconds:
        if chance.random() * (1 + tenant.swing) < tenant.rate(at):
            yield at
        at += chance.expovariate(highest)


def _bursts(tenant: TenantHabits, per_day: float, seconds: float, chance: random.Random) -> Iterator[float]:
    """Bursts of equal size, one at a random moment of each part of the day."""
    each, part = round(per_day / tenant.bursts), DAY_S / tenant.bursts
    count = math.ceil(seconds / part)
    moments: list[float] = []
    for number in range(count):
        begin = number * part + chance.random() * max(0.0, part - tenant.burst_s)
        moments += [begin + chance.random() * tenant.burst_s for _ in range(each)]
    yield from (at for at in sorted(moments) if at < seconds)


def _merged(streams: Sequence[Iterator[float]], names: Sequence[str]) -> Iterator[tuple[float, str]]:
    import heapq

    def named(stream: Iterator[float], name: str) -> Iterator[tuple[float, str]]:
        return ((at, name) for at in stream)

    yield from heapq.merge(*(named(stream, name) for stream, name in zip(streams, names, strict=True)))
