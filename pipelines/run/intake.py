"""From what SOURCE lists to planned sources: what is known by its stamp is not read again, the rest is probed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pipelines.clips.probe import Probed
from pipelines.clips.sources import SourceItem
from pipelines.dataset.manifest import Manifest
from pipelines.dataset.plan import Plan, PlannedSource
from pipelines.dataset.quarantine import QuarantineRecord

STAGE, SHARD = "probe", "sources"
CHUNK_BYTES = 256 << 20
CHUNK_ITEMS = 64


@dataclass
class Intake:
    """Sources of one run, sorted by what has to be done."""

    known: list[PlannedSource] = field(default_factory=list)
    """in the plan already, same size and stamp; what is said about them may be new"""
    fresh: list[SourceItem] = field(default_factory=list)
    """to be hashed and probed"""
    refused: list[QuarantineRecord] = field(default_factory=list)
    """refused before, not changed since"""
    gone: list[str] = field(default_factory=list)
    """in the plan, but SOURCE lacks them"""

    def __len__(self) -> int:
        return len(self.known) + len(self.fresh) + len(self.refused)


def plan_name(item: SourceItem) -> str:
    """The name of a source in the plan: its file's, and the part that a list gives."""
    if item.start is None and item.end is None:
        return item.source
    return f"{item.source}#{item.start or 0:g}-{'' if item.end is None else format(item.end, 'g')}"


def sort_items(items: Iterable[SourceItem], plan: Plan | None, records: Iterable[QuarantineRecord]) -> Intake:
    """Compare what SOURCE lists with what the dataset knows."""
    intake = Intake()
    known = plan.sources if plan else {}
    refused = {record.source: record for record in records if record.stage == STAGE}
    names = set()
    for item in items:
        name = plan_name(item)
        names.add(name)
        old, record = known.get(name), refused.get(name)
        if old is not None and (old.size, old.stamp) == (item.size, item.stamp):
            intake.known.append(_said(old, item))
        elif record is not None and record.stamp == item.stamp:
            intake.refused.append(record)
        else:
            intake.fresh.append(item)
    intake.gone = sorted(set(known) - names)
    return intake


def chunks(items: Iterable[SourceItem]) -> Iterator[list[SourceItem]]:
    """Items in groups that one worker probes in one go."""
    held: list[SourceItem] = []
    size = 0
    for item in items:
        if held and (len(held) >= CHUNK_ITEMS or size + item.size > CHUNK_BYTES):
            yield held
            held, size = [], 0
        held.append(item)
        size += item.size
    if held:
        yield held


def accept(item: SourceItem, probed: Probed | str, manifest: Manifest) -> PlannedSource | QuarantineRecord:
    """A probed source as the plan wants it, or why it is refused."""
    name = plan_name(item)

    def refuse(reason: str, detail: str, sha256: str | None = None) -> QuarantineRecord:
        return QuarantineRecord(
            stage=STAGE,
            shard=SHARD,
            source=name,
            reason=reason,
            detail=detail,
            sha256=sha256,
            stamp=item.stamp,
        )

    if isinstance(probed, str):
        return refuse("unreadable", probed)
    removal = next((r for r in manifest.removals if r.sha256 == probed.sha256), None)
    if removal is not None:
        return refuse("removed", f"taken out on {removal.when}: {removal.why}", probed.sha256)
    if probed.duration is None:
        return refuse(probed.fault_reason or "damaged", probed.fault_detail or "", probed.sha256)
    start = item.start or 0.0
    end = min(probed.duration, item.end if item.end is not None else probed.duration)
    if end <= start:
        return refuse("empty part", f"{name}: the video ends at {probed.duration:.2f} s", probed.sha256)
    planned = PlannedSource(
        source=name, file=item.source, uri=item.uri, sha256=probed.sha256, size=probed.size,
        stamp=probed.stamp, duration=round(end - start, 6), start=start,
    )  # fmt: skip
    return _said(planned, item)


def _said(source: PlannedSource, item: SourceItem) -> PlannedSource:
    """The source with where it is now and what the list says of it now."""
    return source.model_copy(
        update={
            "uri": item.uri,
            "identity": item.identity,
            "labels": item.labels,
            "rights": item.rights,
            "consent": item.consent,
            "split": item.split,
        }
    )
