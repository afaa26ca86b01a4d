"""Refused content: what and why, in groups, and how to have it looked at again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ifmdm_core.errors import NotFound
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import FileRef, Manifest
from pipelines.dataset.quarantine import (
    QuarantineRecord,
    all_records,
    look_again,
    read_records,
    write_records,
)
from pipelines.maintain.rewrite import committed

GroupBy = Literal["reason", "stage", "folder"]


@dataclass(frozen=True)
class Wanted:
    """Which records are meant; None means any."""

    reason: str | None = None
    source: str | None = None
    """a source, or a folder of them"""
    stage: str | None = None
    """probe, clips, speech or motion, or the beginning of a stage's whole name"""

    def __call__(self, record: QuarantineRecord) -> bool:
        folder = (self.source or "").rstrip("/") + "/"
        return (
            self.reason in (None, record.reason)
            and (self.source in (None, record.source) or record.source.startswith(folder))
            and (self.stage is None or record.stage.startswith(self.stage))
        )


@dataclass(frozen=True)
class Group:
    """Records that have something in common."""

    name: str
    count: int
    sources: int
    example: QuarantineRecord


def listed(dataset: Dataset, wanted: Wanted | None = None) -> list[QuarantineRecord]:
    """The records of a dataset, by stage, shard and source."""
    wanted = wanted or Wanted()
    return [record for record in all_records(dataset.storage, dataset.manifest) if wanted(record)]


def grouped(records: Sequence[QuarantineRecord], by: GroupBy = "reason") -> list[Group]:
    """Groups, the largest first."""
    members: dict[str, list[QuarantineRecord]] = {}
    for record in records:
        folder = record.source.rpartition("/")[0] or "."
        members.setdefault({"reason": record.reason, "stage": record.stage, "folder": folder}[by], []).append(
            record
        )
    groups = [Group(n, len(rows), len({r.source for r in rows}), rows[0]) for n, rows in members.items()]
    return sorted(groups, key=lambda group: (-group.count, group.name))


def retry(dataset: Dataset, wanted: Wanted, dry_run: bool = False) -> tuple[Dataset, list[QuarantineRecord]]:
    """Forget refusals, so that the next `data clips` or `data features` looks at that content again.

    Shards concerned are marked for it: the next run copies their good rows. Until then readers refuse to join
    features to a marked clip shard.

    Raises:
        NotFound: no such record. Conflict: others kept changing the dataset meanwhile.
    """
    forgotten: list[QuarantineRecord] = []

    def work(now: Dataset) -> Callable[[Manifest], Manifest] | None:
        kept: dict[str, FileRef | None] = {}
        forgotten.clear()
        for name, ref in sorted(now.manifest.quarantine.items()):
            records = read_records(now.storage, ref)
            stay = [record for record in records if not wanted(record)]
            if len(stay) == len(records):
                continue
            forgotten.extend(record for record in records if wanted(record))
            stage, _, shard = name.rpartition("/")
            kept[name] = None if dry_run else write_records(now.storage, stage, shard, stay)
        if not forgotten:
            raise NotFound(
                f"{now.storage.root} has no such refusals", fix="ifmdm data quarantine lists what there is"
            )
        return None if dry_run else lambda base: look_again(base, kept)

    return committed(dataset, work), forgotten
