"""`ifmdm data features`: feature shards for the clips of a dataset. No source is opened, each clip shard once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ifmdm_core.errors import BadInput
from ifmdm_core.storage import S3Config, Storage
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import (
    FeatureSet,
    Manifest,
    ShardEntry,
    commit,
    feature_inputs,
    latest,
    utc_now,
)
from pipelines.features.encoders import EncoderIdentity, motion_identity, speech_identity
from pipelines.features.shard import FeatureResult, FeatureShardWork, FeatureWanted
from pipelines.run.commits import Committer, Finished, finished, list_features
from pipelines.run.patient_storage import PatientStorage
from pipelines.run.pool import Job, Pool
from pipelines.run.progress import Progress
from pipelines.run.settings import RunSettings

FPS = 25


@dataclass
class FeaturesRun:
    """One call of the command. `speech` and `motion` name models; at least one is given."""

    dataset: str
    settings: RunSettings
    speech: str | None = None
    layers: tuple[int, ...] | None = None
    motion: str | None = None
    generation: str | None = None
    s3: S3Config | None = None
    report: Callable[[str], None] = print
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if self.speech is None and self.motion is None:
            raise BadInput("no features asked for", fix="give --speech MODEL, --motion BUNDLE, or both")
        self.storage: Storage = PatientStorage.open(self.dataset, self.s3, self.report)
        dataset = Dataset(self.storage, latest(self.storage))
        self._generation = dataset.generation(self.generation)[0]
        identities: list[tuple[EncoderIdentity, str]] = []
        if self.speech is not None:
            identities.append((speech_identity(self.speech, self.layers), self.speech))
        if self.motion is not None:
            identities.append((motion_identity(self.motion), self.motion))
        self.identities = {i.digest(self._generation): i for i, _ in identities}
        self.wanted = [
            FeatureWanted(
                kind=i.kind, digest=i.digest(self._generation), reference=reference,
                layers=self.layers if i.kind == "speech" else None,
            )
            for i, reference in identities
        ]  # fmt: skip

    @property
    def generation_name(self) -> str:
        """The generation whose clips are encoded."""
        return self._generation

    def work(self, manifest: Manifest) -> list[FeatureShardWork]:
        """Clip shards that lack one of the wanted sets, or whose rows have changed since."""
        generation = manifest.generations[self._generation]
        works = []
        for name, clips in generation.shards.items():
            missing: dict[str, ShardEntry | None] = {}
            for one in self.wanted:
                features = manifest.features.get(f"{one.kind}/{one.digest}")
                entry = features.shards.get(name) if features else None
                if entry is None or entry.inputs != feature_inputs(one.digest, clips):
                    missing[one.digest] = entry
            if missing:
                works.append(FeatureShardWork(name, clips, clips.frames / FPS, missing))
        return works[: self.settings.limit]

    def dry_run(self) -> dict[str, Any]:
        """What a run would do: shards to open, rows, bytes to read and to write."""
        manifest = latest(self.storage)
        works = self.work(manifest)
        frames = sum(work.clips.frames for work in works)
        item = {
            one.digest: self.identities[one.digest].dim * (2 if one.kind == "speech" else 4)
            for one in self.wanted
        }
        return {
            "dataset": self.dataset, "generation": self._generation,
            "sets": [f"{one.kind}/{one.digest}" for one in self.wanted],
            "clip_shards_to_open": len(works), "clips": sum(work.clips.rows for work in works), "frames": frames,
            "bytes_to_read": sum(work.clips.bytes for work in works),
            "bytes_to_write": sum(work.clips.frames * item[name] for work in works for name in work.previous),
            "scratch_bytes_a_worker": max((2 * work.clips.bytes for work in works), default=0),
        }  # fmt: skip

    def run(self, make_pool: Callable[[], Pool], progress: Progress) -> dict[str, Any]:
        """Do it; the summary.

        Args:
            make_pool: the workers, started only when there is work for them.

        Raises:
            Unavailable, DiskFull, Forbidden: storage, disk or cluster; what was finished is kept.
        """
        works = self.work(latest(self.storage))
        manifest = commit(self.storage, self._with_sets)
        failed: dict[str, str] = {}
        if not works:
            return self._summary(manifest, failed)
        jobs = [
            Job(f"features {work.name}", "build", work, work.seconds, self.settings.deadline(work.seconds))
            for work in works
        ]
        progress.shards(len(jobs), seconds=sum(job.cost for job in jobs))
        committer = Committer(self.storage, list_features)
        with make_pool() as pool:
            try:
                for outcome in pool.run(jobs):
                    work = outcome.job.payload
                    if outcome.error is not None:
                        failed[work.name] = str(outcome.error)
                        progress.failed(work.name, failed[work.name])
                        continue
                    results: list[FeatureResult] = outcome.value
                    for wait in (wait for result in results for wait in result.waits):
                        progress.retry(outcome.job.name, wait)
                    for result in results:
                        committer.add(self._finished(result))
                        self.counts.update(result.counts)
                    self.counts[f"node {outcome.node}"] += 1
                    progress.shard(
                        seconds=work.seconds, videos=0, clips=work.clips.rows, frames=work.clips.frames,
                        quarantined=sum(len(result.faults) for result in results), running=pool.running,
                    )  # fmt: skip
            finally:
                committer.flush()
        return self._summary(latest(self.storage), failed)

    def _finished(self, result: FeatureResult) -> Finished:
        group = f"{result.wanted.kind}/{result.wanted.digest}"
        return finished(self.storage, group, result.wanted.stage, result.name, result.entry, result.faults)

    def _with_sets(self, base: Manifest) -> Manifest:
        """The manifest with the wanted sets begun, where they are not there yet."""
        sets = dict(base.features)
        for one in self.wanted:
            identity = self.identities[one.digest]
            sets.setdefault(
                f"{one.kind}/{one.digest}",
                FeatureSet(
                    kind=one.kind, digest=one.digest, generation=self._generation, dim=identity.dim,
                    encoder=identity.encoder, made_by=identity.made_by,
                    created=utc_now(),
                ),
            )  # fmt: skip
        return base.model_copy(update={"features": sets})

    def _summary(self, manifest: Manifest, failed: dict[str, str]) -> dict[str, Any]:
        sets = {}
        for one in self.wanted:
            entries = manifest.features[f"{one.kind}/{one.digest}"].shards.values()
            sets[f"{one.kind}/{one.digest}"] = {
                "shards": len(entries), "rows": sum(e.rows for e in entries),
                "frames": sum(e.frames for e in entries), "holes": sum(e.holes for e in entries),
                "bytes": sum(e.bytes for e in entries),
            }  # fmt: skip
        return {
            "dataset": self.dataset, "generation": self._generation, "manifest": manifest.number,
            "content": manifest.content, "sets": sets, "counts": dict(sorted(self.counts.items())),
            "failed": failed,
        }  # fmt: skip
