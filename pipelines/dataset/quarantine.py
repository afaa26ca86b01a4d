"""Where refused content is recorded with its reason, one JSON line each. I/O faults never come here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.storage import Storage
from pipelines.dataset.ids import digest
from pipelines.dataset.manifest import FileRef, Manifest, ShardEntry, replaced


class QuarantineRecord(BaseModel):
    """One refused source, span or clip."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str = Field(description="probe, clips, or kind-digest of a feature set")
    shard: str = Field(description="shard it would be in; 'sources' where there is none yet")
    source: str
    reason: str = Field(description="short and stable, to group by: 'no face', 'damaged', ...")
    detail: str = Field("", description="one line for people")
    span: tuple[float, float] | None = None
    clip_id: str | None = None
    sha256: str | None = Field(None, description="of the source: a changed file is looked at again")
    stamp: str | None = None


def write_records(
    storage: Storage, stage: str, shard: str, records: list[QuarantineRecord]
) -> FileRef | None:
    """Put the records of one shard into storage, named by content; None where there are none."""
    if not records:
        return None
    lines = sorted(record.model_dump_json() for record in records)
    data = ("\n".join(lines) + "\n").encode()
    sha256 = hashlib.sha256(data).hexdigest()
    key = f"quarantine/{stage}/{shard}-{sha256[:8]}.jsonl"
    storage.put(key, data)
    return FileRef(key=key, sha256=sha256, bytes=len(data), rows=len(records))


def read_records(storage: Storage, ref: FileRef) -> list[QuarantineRecord]:
    """The records of one file."""
    lines = storage.get(ref.key).decode().splitlines()
    return [QuarantineRecord.model_validate_json(line) for line in lines if line]


def records_of(storage: Storage, manifest: Manifest, stage: str, shard: str) -> list[QuarantineRecord]:
    """The records that a manifest lists for one shard of a stage; none where it lists none."""
    ref = manifest.quarantine.get(f"{stage}/{shard}")
    return read_records(storage, ref) if ref else []


def all_records(storage: Storage, manifest: Manifest) -> list[QuarantineRecord]:
    """Every record that the manifest lists, by stage and shard."""
    return [
        r for name in sorted(manifest.quarantine) for r in read_records(storage, manifest.quarantine[name])
    ]


def look_again(manifest: Manifest, kept: Mapping[str, FileRef | None]) -> Manifest:
    """The manifest with other records, and the shards they are of marked as made from something else.

    The next run makes marked shards again: good rows are copied, what no record speaks of is looked at.

    Args:
        kept: new lists of records by stage/shard, None where none are left.
    """
    touched: dict[str, set[str]] = {}
    for name in kept:
        stage, _, shard = name.rpartition("/")
        touched.setdefault(stage, set()).add(shard)

    def mark(shards: dict[str, ShardEntry], stage: str) -> dict[str, ShardEntry]:
        again = touched.get(stage, set())
        return {
            name: entry.model_copy(update={"inputs": digest("look again", entry.inputs)})
            if name in again
            else entry
            for name, entry in shards.items()
        }

    generations = {
        name: g.model_copy(update={"shards": mark(g.shards, f"clips-{name}")})
        for name, g in manifest.generations.items()
    }
    features = {
        name: s.model_copy(update={"shards": mark(s.shards, f"{s.kind}-{s.digest}")})
        for name, s in manifest.features.items()
    }
    quarantine = replaced(manifest.quarantine, kept)
    return manifest.model_copy(
        update={"generations": generations, "features": features, "quarantine": quarantine}
    )
