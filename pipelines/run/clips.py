"""`ifmdm data clips`: from videos to clip shards. Probes, plans, cuts; every step can be cut short and run again."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ifmdm_core.errors import BadInput, Forbidden, IfmdmError
from ifmdm_core.storage import S3Config, Storage
from pipelines.clips.shard import ClipShardWork, ShardResult
from pipelines.clips.sources import SourceList, list_sources, open_source
from pipelines.dataset.manifest import FileRef, Generation, Manifest, commit, latest, replaced
from pipelines.dataset.parameters import ClipParameters
from pipelines.dataset.plan import (
    Plan,
    PlannedShard,
    PlannedSource,
    bytes_per_second,
    extend,
    shard_seconds,
    store_plan,
)
from pipelines.dataset.quarantine import QuarantineRecord, records_of, write_records
from pipelines.run.commits import Committer, finished, list_clips, plan_of
from pipelines.run.intake import SHARD, STAGE, Intake, accept, chunks, sort_items
from pipelines.run.patient_storage import PatientStorage
from pipelines.run.pool import Job, Pool
from pipelines.run.progress import Progress
from pipelines.run.settings import RunSettings

BAD_FROM = 20
"""Sources seen before the part of refused ones can stop a run."""


@dataclass
class ClipsRun:
    """One call of the command."""

    source: str
    dataset: str
    parameters: ClipParameters
    settings: RunSettings
    s3: S3Config | None = None
    sync: bool = False
    """drop sources that SOURCE lacks"""
    shard_s: float | None = None
    """seconds of video in a shard of a new generation; None decides by the amount of video"""
    report: Callable[[str], None] = print
    counts: Counter[str] = field(default_factory=Counter)
    _plans: dict[str, Plan] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.storage: Storage = PatientStorage.open(self.dataset, self.s3, self.report)
        self._generation = self.parameters.generation

    def dry_run(self) -> dict[str, Any]:
        """What a run would do: sources by kind, shards to make, bytes to read and to write, disk needed."""
        manifest = latest(self.storage)
        plan = self._plan_in(manifest)
        listed, intake = self._intake(manifest, plan)
        seconds, sampled = _expected_seconds(intake, self.s3)
        pending = self._pending(manifest, plan) if plan else []
        seconds += sum(shard.seconds for shard in pending)
        rate = bytes_per_second(self.parameters)
        to_cut = {span.source for shard in pending for span in shard.spans}
        shard_bytes = rate * shard_seconds(seconds, self.parameters)
        largest = max((item.size for item in intake.fresh), default=0)
        return {
            "source": self.source, "dataset": self.dataset, "generation": self._generation,
            "sources": len(listed.items), "known": len(intake.known), "to_probe": len(intake.fresh),
            "refused_before": len(intake.refused), "bad_rows": len(listed.faults), "gone": len(intake.gone),
            "bytes_to_read": sum(item.size for item in intake.fresh)
            + sum(source.size for name, source in (plan.sources if plan else {}).items() if name in to_cut),
            "hours": round(seconds / 3600, 3), "durations_from_sample": sampled,
            "dataset_bytes": round(seconds * rate), "shards_pending": len(pending),
            "scratch_bytes_a_worker": round(largest + 2 * shard_bytes),
            "scratch_free": shutil.disk_usage(self.settings.scratch or Path("/")).free,
        }  # fmt: skip

    def run(self, make_pool: Callable[[], Pool], progress: Progress) -> dict[str, Any]:
        """Do it; the summary.

        Args:
            make_pool: the workers, started only when there is work for them.

        Raises:
            Unavailable, DiskFull, Forbidden: storage, disk or cluster; what was finished is kept.
            BadInput: more sources were refused than `max_bad_fraction` allows.
        """
        manifest = latest(self.storage)
        plan = self._plan_in(manifest)
        listed, intake = self._intake(manifest, plan)
        progress.start(sources=len(listed.items))
        self.counts.update(listed=len(intake), known=len(intake.known), refused_before=len(intake.refused))
        pending = self._pending(manifest, plan) if plan else []
        if not intake.fresh and not pending and plan and not self._plan_changes(plan, intake):
            return self._summary(manifest, {})
        with make_pool() as pool:
            planned, refused = self._probe(pool, intake, manifest, progress)
            refused += [self._bad_row(fault) for fault in listed.faults]
            manifest = self._commit_plan(intake, planned, refused)
            plan = self._plan_in(manifest)
            assert plan is not None
            self._check_bad(len(refused) + len(intake.refused), len(intake))
            failed = self._cut(pool, manifest, plan, progress)
        return self._summary(latest(self.storage), failed)

    def _plan_in(self, manifest: Manifest) -> Plan | None:
        generation = manifest.generations.get(self._generation)
        return plan_of(self.storage, generation.plan, self._plans) if generation else None

    def _intake(self, manifest: Manifest, plan: Plan | None) -> tuple[SourceList, Intake]:
        listed = list_sources(self.source, self.s3, self.settings.limit)
        return listed, sort_items(listed.items, plan, records_of(self.storage, manifest, STAGE, SHARD))

    def _plan_changes(self, plan: Plan, intake: Intake) -> bool:
        """Whether known sources have new labels or places, or some are to be dropped."""
        moved = any(plan.sources[s.source].model_copy(update={"duplicate_of": None}) !=
                    s.model_copy(update={"duplicate_of": None}) for s in intake.known)  # fmt: skip
        return moved or (self.sync and bool(intake.gone))

    def _probe(
        self, pool: Pool, intake: Intake, manifest: Manifest, progress: Progress
    ) -> tuple[list[PlannedSource], list[QuarantineRecord]]:
        groups = {f"probe {n}": items for n, items in enumerate(chunks(intake.fresh))}
        jobs = [
            Job(
                name, "probe", items, sum(i.size for i in items) / 1e6, 600 + sum(i.size for i in items) / 1e6
            )
            for name, items in groups.items()
        ]
        planned: list[PlannedSource] = []
        refused: list[QuarantineRecord] = []
        unreadable: list[str] = []
        for outcome in pool.run(jobs):
            if outcome.error is not None:
                raise outcome.error  # without the whole list there is no plan
            for item, probed in zip(groups[outcome.job.name], outcome.value, strict=True):
                found = accept(item, probed, manifest)
                if isinstance(found, PlannedSource):
                    planned.append(found)
                else:
                    refused.append(found)
                    unreadable += [found.detail] if found.reason == "unreadable" else []
            progress.probed(len(groups[outcome.job.name]), refused=len(refused))
        if unreadable and len(unreadable) == len(intake):
            raise Forbidden(f"no source can be read; the first says: {unreadable[0]}")
        self.counts.update(probed=len(intake.fresh), refused_now=len(refused))
        return planned, refused

    def _bad_row(self, fault: Any) -> QuarantineRecord:
        return QuarantineRecord(
            stage=STAGE, shard=SHARD, source=fault.source, reason=fault.reason, detail=fault.detail
        )

    def _commit_plan(
        self, intake: Intake, planned: list[PlannedSource], refused: list[QuarantineRecord]
    ) -> Manifest:
        """The plan with this run's sources, merged into whatever is the latest manifest then."""

        def change(base: Manifest) -> Manifest:
            old = self._plan_in(base)
            total = sum(source.duration for source in (*planned, *intake.known))
            shard_s = self.shard_s or shard_seconds(total, self.parameters)
            start = old or Plan(parameters=self.parameters, shard_s=shard_s)
            entries = base.generations[self._generation].shards if old else {}
            keys = start.keys()
            done = [name for name, entry in entries.items() if entry.inputs == keys.get(name)]
            # A source found twice at the same moment by two writers is the same source: extend() replaces it.
            plan = extend(start, [*intake.known, *sorted(planned, key=lambda s: s.source)], done,
                          intake.gone if self.sync else ())  # fmt: skip
            wanted = plan.keys()
            ref = self._store_plan(plan)
            shards = {name: entry for name, entry in entries.items() if name in wanted}
            arrivals = {**dict.fromkeys(plan.sources, base.number + 1), **base.arrivals}
            return base.model_copy(
                update={
                    "generations": {
                        **base.generations,
                        self._generation: Generation(plan=ref, shards=shards),
                    },
                    "current": self._generation,
                    "quarantine": self._merge_refused(base, planned, refused, intake),
                    "arrivals": {name: arrivals[name] for name in sorted(arrivals)},
                }
            )

        return commit(self.storage, change)

    def _store_plan(self, plan: Plan) -> FileRef:
        ref = store_plan(self.storage, plan)
        self._plans[ref.key] = plan
        return ref

    def _merge_refused(
        self, base: Manifest, planned: list[PlannedSource], refused: list[QuarantineRecord], intake: Intake
    ) -> dict[str, FileRef]:
        """Quarantine of the probe stage: others' records, less those of sources that are good now, and ours."""
        records = {r.source: r for r in records_of(self.storage, base, STAGE, SHARD)}
        for source in (*planned, *intake.known):
            records.pop(source.source, None)
        if self.sync:
            records = {r.source: r for r in intake.refused}
        records.update((record.source, record) for record in refused)
        ref = write_records(self.storage, STAGE, SHARD, [*records.values()])
        return replaced(base.quarantine, {f"{STAGE}/{SHARD}": ref})

    def _pending(self, manifest: Manifest, plan: Plan) -> list[PlannedShard]:
        entries = manifest.generations[self._generation].shards
        keys = plan.keys()
        return [s for s in plan.shards if s.name not in entries or entries[s.name].inputs != keys[s.name]]

    def _cut(self, pool: Pool, manifest: Manifest, plan: Plan, progress: Progress) -> dict[str, str]:
        """Make the shards that are missing; names of those that could not be made, with the reason."""
        stage = f"clips-{self._generation}"
        jobs = [self._job(manifest, plan, shard) for shard in self._pending(manifest, plan)]
        if not jobs:
            return {}
        committer = Committer(self.storage, list_clips(self.storage, self._plans))
        failed: dict[str, str] = {}
        bad = seen = 0
        progress.shards(len(jobs), seconds=sum(job.cost for job in jobs))
        try:
            for outcome in pool.run(jobs):
                name = outcome.job.payload.name
                if outcome.error is not None:
                    failed[name] = str(outcome.error)
                    progress.failed(name, failed[name])
                    continue
                result: ShardResult = outcome.value
                for wait in result.waits:
                    progress.retry(outcome.job.name, wait)
                committer.add(
                    finished(self.storage, self._generation, stage, name, result.entry, result.faults)
                )
                self.counts.update(result.counts)
                self.counts[f"node {outcome.node}"] += 1
                progress.shard(
                    seconds=outcome.job.cost, videos=result.counts["sources_opened"], clips=result.entry.rows,
                    frames=result.entry.frames, quarantined=len(result.faults), running=pool.running,
                )  # fmt: skip
                seen += len(outcome.job.payload.sources)
                bad += len({fault.source for fault in result.faults})
                self._check_bad(bad, seen)
        finally:
            committer.flush()
        return failed

    def _job(self, manifest: Manifest, plan: Plan, shard: PlannedShard) -> Job:
        work = ClipShardWork(
            name=shard.name, spans=shard.spans,
            sources={span.source: plan.sources[span.source] for span in shard.spans},
            inputs=plan.key(shard), previous=manifest.generations[self._generation].shards.get(shard.name),
            faults=tuple(records_of(self.storage, manifest, f"clips-{self._generation}", shard.name)),
        )  # fmt: skip
        return Job(f"clips {shard.name}", "build", work, work.seconds, self.settings.deadline(work.seconds))

    def _check_bad(self, bad: int, seen: int) -> None:
        allowed = self.settings.max_bad_fraction
        if seen >= BAD_FROM and bad > allowed * seen:
            raise BadInput(
                f"{bad} of the first {seen} sources of {self.source} are refused, more than {allowed:.0%}",
                fix="see `ifmdm data quarantine`; --max-bad-fraction 1 goes on regardless",
            )

    def _summary(self, manifest: Manifest, failed: dict[str, str]) -> dict[str, Any]:
        generation = manifest.generations[self._generation]
        entries = generation.shards.values()
        plan = self._plan_in(manifest)
        assert plan is not None
        quarantine = {k: v.rows for k, v in manifest.quarantine.items() if k.startswith((STAGE, "clips-"))}
        return {
            "dataset": self.dataset, "generation": self._generation, "manifest": manifest.number,
            "content": manifest.content, "sources": len(plan.sources),
            "duplicates": sum(s.duplicate_of is not None for s in plan.sources.values()),
            "shards": len(entries), "clips": sum(e.rows for e in entries), "frames": sum(e.frames for e in entries),
            "bytes": sum(e.bytes for e in entries), "quarantined": sum(quarantine.values()),
            "counts": dict(sorted(self.counts.items())), "failed": failed,
        }  # fmt: skip


def _expected_seconds(intake: Intake, s3: S3Config | None, sample: int = 50) -> tuple[float, int]:
    """Seconds of video in the unprobed sources, from the headers of an evenly spaced sample of local ones."""
    from ifmdm_core.media.video import probe_video

    if not intake.fresh:
        return 0.0, 0
    step = max(1, len(intake.fresh) // sample)
    seconds = size = seen = 0.0
    for item in intake.fresh[::step]:
        if item.uri.startswith("s3://"):
            continue
        try:
            with open_source(item, s3, Path("/")) as path:
                seconds += probe_video(path, item.source).duration or 0.0
                size += item.size
                seen += 1
        except IfmdmError:
            continue
    total = sum(item.size for item in intake.fresh)
    bytes_per_s = size / seconds if seconds else 60_000.0  # typical talking-head material
    return total / bytes_per_s, int(seen)
