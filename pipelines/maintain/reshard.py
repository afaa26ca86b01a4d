"""Another shard size: clips and features move into new shards as they are, no video is decoded, no model runs."""

from __future__ import annotations

from dataclasses import dataclass

from ifmdm_core.errors import BadInput
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.plan import Plan, PlannedShard, Span
from pipelines.maintain.rewrite import committed, rewrite


@dataclass(frozen=True)
class Resharded:
    """What was, or would be, done."""

    generation: str
    before: int
    """shards"""
    after: int
    seconds: float
    """of video that a shard now aims at"""
    bytes: int
    """of clip shards; features come on top"""


def regrouped(plan: Plan, shard_s: float) -> Plan:
    """The plan with the same spans in the same order, in shards of `shard_s` seconds."""
    groups: list[list[Span]] = []
    held = 0.0
    for span in (span for shard in plan.shards for span in shard.spans):
        seconds = span.end - span.start
        if not groups or held + seconds > shard_s:
            groups.append([])
            held = 0.0
        groups[-1].append(span)
        held += seconds
    shards = tuple(PlannedShard(name=f"{k:05d}", spans=tuple(spans)) for k, spans in enumerate(groups))
    return plan.model_copy(update={"shards": shards, "shard_s": shard_s})


def reshard(
    dataset: Dataset,
    *,
    seconds: float | None = None,
    megabytes: float | None = None,
    generation: str | None = None,
    dry_run: bool = False,
) -> tuple[Dataset, Resharded]:
    """Move a generation into shards of `seconds` of video or about `megabytes` (10^6 bytes) of clips.

    The old shards stay listed until all new ones are; they go with `ifmdm data prune`.

    Raises:
        BadInput: not exactly one size, or one that is not positive.
        Conflict: a shard is not finished or is damaged, or others kept changing the dataset meanwhile.
    """
    if (seconds is None) == (megabytes is None) or (seconds or megabytes or 0) <= 0:
        raise BadInput("a shard needs one size above 0", fix="give --seconds or --megabytes")
    made: list[Resharded] = []

    def work(now: Dataset) -> object:
        name, entries = now.generation(generation)
        plan = now.plan(name)
        size = sum(entry.bytes for entry in entries.shards.values())
        total = sum(shard.seconds for shard in plan.shards)
        target = seconds or (megabytes or 0) * 1e6 * total / max(size, 1)
        new = regrouped(plan, round(target, 3))
        made[:] = [Resharded(name, len(plan.shards), len(new.shards), new.shard_s, size)]
        if dry_run or new == plan:
            return None
        return rewrite(now, name, new, whole=True).apply

    return committed(dataset, work), made[0]  # type: ignore[arg-type]
