"""The plan of a generation: which span of which source goes into which shard, fixed before anything is decoded.

Extending a plan leaves every old span in its shard, so an increment rewrites only the shards it touches.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ifmdm_core.errors import BadInput, Unsupported
from ifmdm_core.storage import Storage
from pipelines.dataset.ids import digest
from pipelines.dataset.manifest import FileRef
from pipelines.dataset.parameters import FORMAT, ClipParameters

TARGET_BYTES = 96 << 20
"""Size that clip shards of a large dataset aim at; files of 64 to 128 MB suit object stores and readers."""
MIN_SHARDS = 32
"""A small dataset still has about as many shards, so that workers share it and a fault costs little..."""
MIN_SHARD_S = 60.0
"""...but no shard is planned shorter than this many seconds of video."""
BYTES_PER_S = {256: 62_000, 512: 185_000, 1024: 600_000}
"""Stored bytes of one second of clip by its side, sound included: measured up to 512, extrapolated beyond."""


class PlannedSource(BaseModel):
    """One source: what it is called, what it holds, and what is said about it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="its name in the plan: `file`, with #start-end where a list gives a part")
    file: str = Field(description="name relative to SOURCE, as clip rows have it")
    uri: str = Field(description="where it was when planned; not part of any key")
    sha256: str
    size: int = Field(description="bytes")
    stamp: str = Field(description="time or ETag when it was hashed; another stamp means: hash again")
    duration: float = Field(description="seconds that may be cut")
    start: float = Field(0.0, description="first second that may be cut")
    identity: str | None = None
    labels: tuple[str, ...] = ()
    rights: str | None = None
    consent: str | None = None
    split: str | None = None
    duplicate_of: str | None = Field(
        None, description="an earlier source with the same bytes and part; not cut"
    )

    @property
    def said(self) -> dict[str, object]:
        """The columns that a source list gives for all clips of this source."""
        return {
            "identity": self.identity, "labels": list(self.labels), "rights": self.rights,
            "consent": self.consent, "split": self.split,
        }  # fmt: skip


class Span(BaseModel):
    """Seconds [start, end) of a source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    start: float
    end: float


class PlannedShard(BaseModel):
    """The spans whose clips make one shard, in row order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    spans: tuple[Span, ...]

    @property
    def seconds(self) -> float:
        return sum(span.end - span.start for span in self.spans)


class Plan(BaseModel):
    """All sources and shards of one generation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = FORMAT
    parameters: ClipParameters
    shard_s: float = Field(description="seconds of video that a shard aims at; `data reshard` changes it")
    sources: dict[str, PlannedSource] = Field(default_factory=dict, description="by name")
    shards: tuple[PlannedShard, ...] = ()

    @property
    def generation(self) -> str:
        return self.parameters.generation

    def key(self, shard: PlannedShard) -> str:
        """Digest of everything that decides the shard's bytes."""
        rows = []
        for span in shard.spans:
            source = self.sources[span.source]
            rows.append([source.file, source.sha256, span.start, span.end, source.said])
        return digest("clips", self.generation, rows)

    def keys(self) -> dict[str, str]:
        """Key of every shard, by its name."""
        return {shard.name: self.key(shard) for shard in self.shards}


def store_plan(storage: Storage, plan: Plan) -> FileRef:
    """Put a plan into storage, named by its content."""
    data = plan.model_dump_json().encode()
    sha256 = hashlib.sha256(data).hexdigest()
    key = f"plan/{plan.generation}-{sha256[:8]}.json"
    storage.put(key, data)
    return FileRef(key=key, sha256=sha256, bytes=len(data), rows=len(plan.sources))


def read_plan(storage: Storage, key: str) -> Plan:
    """A plan from its file.

    Raises:
        BadInput: it is no plan. Unsupported: another major version of the format.
    """
    try:
        plan = Plan.model_validate_json(storage.get(key))
    except ValidationError as error:
        raise BadInput(f"{storage.root}/{key}: {error.errors()[0]['msg']}") from None
    if plan.format.partition(".")[0] != FORMAT.partition(".")[0]:
        raise Unsupported(f"{key} has format {plan.format}, this program reads {FORMAT}", fix="update ifmdm")
    return plan


def bytes_per_second(parameters: ClipParameters) -> int:
    """Stored bytes of one second of clip, by the nearest measured size."""
    return BYTES_PER_S[min(BYTES_PER_S, key=lambda side: abs(side - parameters.size))]


def shard_seconds(total_s: float, parameters: ClipParameters) -> float:
    """Seconds of video for one shard of a dataset that lasts `total_s`."""
    return max(MIN_SHARD_S, min(TARGET_BYTES / bytes_per_second(parameters), total_s / MIN_SHARDS))


def spans_of(source: PlannedSource, span_s: float) -> list[Span]:
    """A source in equal parts of at most `span_s` seconds, cut on whole hundredths of a second."""
    parts = max(1, math.ceil(source.duration / span_s - 1e-6))
    edges = [round(source.start + source.duration * k / parts, 2) for k in range(parts)]
    ends = [*edges[1:], round(source.start + source.duration, 6)]
    return [Span(source=source.source, start=a, end=b) for a, b in zip(edges, ends, strict=True)]


def extend(
    plan: Plan, sources: Sequence[PlannedSource], done: Iterable[str] = (), drop: Iterable[str] = ()
) -> Plan:
    """The plan with `sources` added or replaced and the names in `drop` taken out.

    A changed source goes into the first shard it was in; a new one fills the last shard if that is in `done` (so
    nobody is at work on it) and less than half full, else opens new shards. Depends on the arguments only.
    """
    dropped = set(drop)
    table = {name: source for name, source in plan.sources.items() if name not in dropped}
    table.update((source.source, source) for source in sources)
    cut_before = {span.source for shard in plan.shards for span in shard.spans}
    table = _mark_duplicates(table, cut_before)

    placed: dict[str, list[Span]] = {shard.name: [] for shard in plan.shards}
    seen: set[str] = set()
    for shard in plan.shards:
        for span in shard.spans:
            source = table.get(span.source)
            if source is None or source.duplicate_of is not None:
                continue
            if _same_part(plan.sources[span.source], source):
                placed[shard.name].append(span)
            elif span.source not in seen:
                placed[shard.name] += spans_of(source, plan.parameters.span_s)
            seen.add(span.source)

    last = plan.shards[-1] if plan.shards else None
    filling = last.name if last and last.name in set(done) and last.seconds < plan.shard_s / 2 else None
    for name, source in table.items():
        if name in seen or source.duplicate_of is not None:
            continue
        for span in spans_of(source, plan.parameters.span_s):
            if filling is None or not _has_room(placed[filling], span, plan.shard_s):
                filling = f"{max(map(int, placed), default=-1) + 1:05d}"
                placed[filling] = []
            placed[filling].append(span)
    shards = tuple(PlannedShard(name=name, spans=tuple(spans)) for name, spans in placed.items() if spans)
    return plan.model_copy(update={"sources": table, "shards": shards})


def _has_room(held: Sequence[Span], span: Span, shard_s: float) -> bool:
    seconds = sum(s.end - s.start for s in held)
    return not held or seconds + (span.end - span.start) <= shard_s


def _same_part(old: PlannedSource, new: PlannedSource) -> bool:
    return (old.sha256, old.start, old.duration) == (new.sha256, new.start, new.duration)


def _mark_duplicates(table: dict[str, PlannedSource], cut_before: set[str]) -> dict[str, PlannedSource]:
    """Of sources with the same bytes and part all but one are marked, for their clips would have the same ids.

    The one that was cut before stays; else the first by name is kept.
    """
    first: dict[tuple[str, float, float], str] = {}
    marked = {}
    for name in sorted(table, key=lambda n: (n not in cut_before, n)):
        source = table[name]
        keeper = first.setdefault((source.sha256, source.start, source.duration), name)
        marked[name] = source.model_copy(update={"duplicate_of": None if keeper == name else keeper})
    return {name: marked[name] for name in table}
