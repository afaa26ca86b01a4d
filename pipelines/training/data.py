"""A training's data: found and counted before anything starts, then read as it was found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ifmdm_core.errors import Conflict, NotFound
from ifmdm_core.storage import S3Config
from pipelines.dataset.columns import read_columns
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import latest, parse
from pipelines.dataset.reader import MotionReader
from pipelines.dataset.selection import COLUMNS
from pipelines.run.patient_storage import PatientStorage
from pipelines.training.config import DataConfig
from pipelines.training.run import DataRecord


@dataclass(frozen=True)
class Needs:
    """Feature sets that a stage reads."""

    speech: bool = False
    motion: bool = False


def survey(config: DataConfig, needs: Needs, s3: S3Config | None = None) -> DataRecord:
    """What the dataset has for this training, from its manifest and columns: no video is opened.

    Raises:
        NotFound: no dataset, generation, selection or feature set, or no clips of the split. Conflict: an ambiguous
        digest, features that lack shards, or a selection of another generation.
    """
    storage = PatientStorage.open(config.dataset, s3)
    manifest = latest(storage)
    if manifest.number < 0:
        raise NotFound(
            f"data.dataset: {config.dataset} is no dataset: it has no manifests",
            fix="make one with ifmdm data clips SOURCE DATASET",
        )
    dataset = Dataset(storage, manifest)
    reader = MotionReader(
        dataset, config.speech, config.motion, config.selection, config.split, generation=config.generation
    )
    speech = reader.features("speech") if needs.speech else None
    motion = reader.features("motion") if needs.motion else None
    clips, frames = _count(reader)
    if not clips[config.split]:
        have = ", ".join(
            f"{name or 'none'} ({count} clips)" for name, count in sorted(clips.items(), key=str)
        )
        raise NotFound(
            f"data.split: {config.dataset} has no clips of split {config.split!r}",
            fix=f"it has {have or 'no clips'}; make a selection with ifmdm data select, or set data.split to null",
        )
    return DataRecord(
        dataset=config.dataset,
        manifest=manifest.number,
        content=manifest.content,
        generation=reader.generation,
        speech=speech.digest if speech else None,
        motion=motion.digest if motion else None,
        motion_encoder=motion.encoder if motion else None,
        speech_encoder=speech.encoder if speech else None,
        selection=config.selection,
        selection_key=manifest.selections[config.selection].key if config.selection else None,
        split=config.split,
        clips=clips[config.split],
        frames=frames[config.split],
        held_out=clips[config.validation_split] if config.validation_split else 0,
    )


def open_dataset(record: DataRecord, s3: S3Config | None = None) -> Dataset:
    """The dataset as the run pinned it.

    Raises:
        NotFound: that manifest was pruned. Conflict: it is of other shards.
    """
    storage = PatientStorage.open(record.dataset, s3)
    key = f"manifests/{record.manifest:08d}.json"
    try:
        manifest = parse(storage.get(key), f"{record.dataset}/{key}")
    except NotFound:
        raise NotFound(
            f"{record.dataset} has no manifest {record.manifest} any more, which this run reads",
            fix="restore it, or start a new run from this one's weights",
        ) from None
    if manifest.content != record.content:
        raise Conflict(
            f"{record.dataset}: manifest {record.manifest} has content {manifest.content}, the run was started on "
            f"{record.content}",
            fix="another dataset lies there now: put the first one back, or start a new run",
        )
    return Dataset(storage, manifest)


def open_reader(
    record: DataRecord,
    config: DataConfig,
    s3: S3Config | None = None,
    *,
    held_out: bool = False,
    scratch: Path | None = None,
) -> MotionReader:
    """Reads what `survey` found; the validation split with `held_out`."""
    return MotionReader(
        open_dataset(record, s3),
        record.speech,
        record.motion,
        record.selection,
        config.validation_split if held_out else config.split,
        generation=record.generation,
        buffer=config.buffer,
        scratch=scratch,
    )


def _count(reader: MotionReader) -> tuple[Counter[str | None], Counter[str | None]]:
    """Clips and frames that count, by split; under None all of them."""
    clips: Counter[str | None] = Counter()
    frames: Counter[str | None] = Counter()
    every = MotionReader(reader.dataset, selection=reader.selection, generation=reader.generation)
    for shard in every.shards:
        for _, row in every.rows(read_columns(every.dataset, shard, COLUMNS, every.generation)):
            split = every.selection.split_of(row) if every.selection else row["split"]
            for name in {None, split}:
                clips[name] += 1
                frames[name] += row["num_frames"]
    return clips, frames
