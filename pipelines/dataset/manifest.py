"""What a dataset consists of: numbered, create-only manifests. What the latest does not list does not exist.

Writers race for the next number; a loser reads the winner's manifest and applies its own change to that. So two
people can fill one dataset at the same time, and a reader never sees half of a change.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ifmdm_core.errors import BadInput, Conflict, NotFound, Unavailable, Unsupported
from ifmdm_core.storage import Storage
from pipelines.dataset.ids import digest

T = TypeVar("T")

MANIFEST_FORMAT = 1
_RACES = 50


class FileRef(BaseModel):
    """A file of the dataset, by key and content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    sha256: str
    bytes: int
    rows: int = Field(0, description="records in it, where it is a list")


class ShardEntry(FileRef):
    """A finished Arrow shard."""

    inputs: str = Field(description="digest of what it was made from; another one means: make it again")
    frames: int
    holes: int = Field(0, description="rows without features")
    made: dict[str, str] = Field(
        default_factory=dict, description="versions, device: lineage, never in the bytes"
    )


def feature_inputs(set_digest: str, clips: ShardEntry) -> str:
    """Key of the feature shard that a set makes of a clip shard."""
    return digest("features", set_digest, clips.inputs)


class Generation(BaseModel):
    """The clips cut with one set of parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: FileRef
    shards: dict[str, ShardEntry] = Field(default_factory=dict, description="by shard name")


class FeatureSet(BaseModel):
    """Speech or motion columns of one generation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["speech", "motion"]
    digest: str
    generation: str
    dim: int
    encoder: str = Field(description="digest of the weights that made it")
    made_by: dict[str, str] = Field(
        default_factory=dict, description="names people know: bundle, layers, fps"
    )
    created: str = Field(description="UTC, when the set was begun")
    shards: dict[str, ShardEntry] = Field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.digest}"


class Removal(BaseModel):
    """Why a source is no longer here; it is refused when it comes again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    sha256: str
    why: str
    when: str
    manifest: int = Field(description="the last manifest that still held it")
    seen_by: tuple[str, ...] = Field((), description="feature sets and bundles made while it was here")


class Manifest(BaseModel):
    """One numbered state of the dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = MANIFEST_FORMAT
    number: int = -1
    writer: str = Field(
        "", description="random name of the write, to recognise one's own after a lost answer"
    )
    written: str = ""
    generations: dict[str, Generation] = Field(default_factory=dict)
    current: str | None = Field(None, description="generation that commands use unless told otherwise")
    features: dict[str, FeatureSet] = Field(default_factory=dict, description="by kind/digest")
    selections: dict[str, FileRef] = Field(default_factory=dict)
    quarantine: dict[str, FileRef] = Field(default_factory=dict, description="by stage/shard")
    removals: tuple[Removal, ...] = ()
    arrivals: dict[str, int] = Field(
        default_factory=dict, description="number of the first manifest whose plan held a source"
    )

    @property
    def content(self) -> str:
        """Digest (32 digits) of the shards alone: equal data, equal digest, whatever their history."""
        shards = {name: e.sha256 for g in self.generations.values() for name, e in g.shards.items()}
        sets = {f"{s.name}/{name}": e.sha256 for s in self.features.values() for name, e in s.shards.items()}
        return digest(shards, sets)

    def files(self) -> dict[str, FileRef]:
        """Every file that this manifest lists, by key."""
        found: list[FileRef] = [*self.selections.values(), *self.quarantine.values()]
        for generation in self.generations.values():
            found += [generation.plan, *generation.shards.values()]
        for features in self.features.values():
            found += features.shards.values()
        return {file.key: file for file in found}


def latest(storage: Storage) -> Manifest:
    """The manifest with the highest number; an empty one (number -1) where there is none.

    Raises:
        BadInput: it is not readable. Unsupported: another format.
    """
    numbers = [item.key for item in storage.list("manifests/") if item.key.endswith(".json")]
    for key in reversed(numbers):  # one may vanish between list and get when old ones are pruned
        try:
            return parse(storage.get(key), f"{storage.root}/{key}")
        except NotFound:
            continue
    return Manifest()


def parse(data: bytes, name: str) -> Manifest:
    """A manifest from its file."""
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"][:1] == ("format",):
            raise Unsupported(f"{name} has manifest format {first['input']!r}", fix="update ifmdm") from None
        raise BadInput(f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if manifest.format != MANIFEST_FORMAT:
        raise Unsupported(
            f"{name} has manifest format {manifest.format}, this program reads {MANIFEST_FORMAT}",
            fix="update ifmdm",
        )
    return manifest


def commit(storage: Storage, change: Callable[[Manifest], Manifest | None]) -> Manifest:
    """Write the next manifest: `change` applied to the latest. None or an equal one writes nothing.

    `change` is called again on the winner's manifest after a lost race, so it must merge, not overwrite.

    Raises:
        Conflict: fifty races lost in a row.
        Unavailable: the store does not say whether the write happened, and does not let it be read back.
    """
    for _ in range(_RACES):
        base = latest(storage)
        wanted = change(base)
        if wanted is None or wanted == base:
            return base
        written = wanted.model_copy(
            update={
                "number": base.number + 1,
                "writer": uuid4().hex,
                "written": utc_now(),
                "format": MANIFEST_FORMAT,
            }
        )
        key = f"manifests/{written.number:08d}.json"
        data = written.model_dump_json(exclude_defaults=False).encode()
        try:
            won = storage.put_if_absent(key, data)
        except Unavailable:
            won = _is_ours(storage, key, written)
        if won:
            return written
    raise Conflict(f"{storage.root}: lost {_RACES} races for the next manifest", fix="try again later")


def _is_ours(storage: Storage, key: str, written: Manifest) -> bool:
    """After an answer that left it open: whether our write is the one that is there."""
    time.sleep(0.2)
    try:
        return parse(storage.get(key), key).writer == written.writer
    except NotFound:
        return False


def utc_now() -> str:
    """The time as records have it: `2026-01-31T12:00:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def replaced(values: Mapping[str, T], new: Mapping[str, T | None]) -> dict[str, T]:
    """A copy of a table with some entries set, or taken out where the new value is None."""
    return {key: value for key, value in {**values, **new}.items() if value is not None}
