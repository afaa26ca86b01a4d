"""What of a dataset is worth training on: thresholds, duplicates, splits, audio offsets by folder of sources.

A selection is a small named file that readers apply. Changing one cuts nothing again, and it decides from columns
alone: no video is opened.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ifmdm_core.errors import BadInput, NotFound, nearest
from pipelines.dataset.columns import read_columns
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.duplicates import find_duplicates
from pipelines.dataset.ids import digest
from pipelines.dataset.manifest import FileRef, Manifest, commit

QUALITY = (
    "num_frames", "size", "face_size", "sharpness", "brightness", "head_motion", "loudness", "speech_share",
)  # fmt: skip
"""Columns that thresholds may name."""
DEFAULT_MINIMUM = {"face_size": 64.0, "sharpness": 15.0, "brightness": 0.08}
DEFAULT_MAXIMUM = {"brightness": 0.95}
COLUMNS = (*QUALITY, "clip_id", "source", "identity", "rights", "split")
"""All that `Selection.refusal` and `split_of` look at."""

OFFSET_CLIPS = 8
"""Confident clips that a folder needs for an offset."""
OFFSET_CONFIDENCE = 0.1
"""Least confidence of one clip's offset."""
OFFSET_SPREAD_S = 0.08
"""Most that the clips' offsets may deviate (median of deviations) where one offset is to hold for all, seconds."""


class Selection(BaseModel):
    """Which clips of one generation count, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    generation: str
    minimum: dict[str, float] = Field(default_factory=dict, description="least value by column")
    maximum: dict[str, float] = Field(default_factory=dict, description="greatest value by column")
    needs_sound: bool = Field(False, description="refuse clips without sound")
    rights: tuple[str, ...] = Field((), description="values of the column that may be used; none: all")
    heldout_share: float = Field(
        0.05, ge=0, le=1, description="part of the people that the list gives no split"
    )
    seed: int = Field(0, description="of that choice")
    duplicates: dict[str, str] = Field(default_factory=dict, description="clip -> the one kept instead")
    offsets: dict[str, float] = Field(
        default_factory=dict, description="folder of sources -> seconds its sound comes late"
    )
    counts: dict[str, int] = Field(
        default_factory=dict, description="clips by outcome when it was made: kept:<split> or why not"
    )
    clips: str = Field(
        "", description="digest of the clip shards it was made from; duplicates of later clips are unknown"
    )

    def refusal(self, row: Mapping[str, Any]) -> str | None:
        """Why a clip (a row with `COLUMNS`) is left out, None where it counts."""
        silent = row["loudness"] is None
        if self.needs_sound and silent:
            return "no sound"
        for column, least in self.minimum.items():
            if row[column] is not None and row[column] < least:
                return f"{column} < {least:g}"
        for column, most in self.maximum.items():
            if row[column] is not None and row[column] > most:
                return f"{column} > {most:g}"
        if self.rights and row["rights"] not in self.rights:
            return f"rights {row['rights'] or 'unknown'}"
        if row["clip_id"] in self.duplicates:
            return "duplicate"
        return None

    def split_of(self, row: Mapping[str, Any]) -> str:
        """The split of a clip: as its source list says, else `heldout` for a share of the people, else `train`.

        A person (or a source, where nobody is named) is in one split with everything, whatever else is there.
        """
        if row["split"]:
            return str(row["split"])
        unit = f"{self.seed}:{row['identity'] or row['source']}"
        place = int.from_bytes(hashlib.sha256(unit.encode()).digest()[:8], "big") / 2**64
        return "heldout" if place < self.heldout_share else "train"

    def offset_of(self, source: str) -> float | None:
        """Seconds that the sound of a source comes late, as its folder's clips agree; None: unknown."""
        return self.offsets.get(folder_of(source))


def folder_of(source: str) -> str:
    """The folder of a source's name; "." at the top."""
    return str(PurePosixPath(source).parent)


def build_selection(
    dataset: Dataset,
    name: str,
    *,
    minimum: Mapping[str, float] | None = None,
    maximum: Mapping[str, float] | None = None,
    needs_sound: bool = False,
    rights: Iterable[str] = (),
    heldout_share: float = 0.05,
    seed: int = 0,
    generation: str | None = None,
) -> Selection:
    """Look at the columns of every clip; `minimum` and `maximum` add to the defaults, -inf or inf lifts one.

    Duplicates are sought among the clips that pass everything else, so a group never loses its only good copy.

    Raises:
        BadInput: a threshold on a column that has none, or a name that is no file name.
    """
    if not name or not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name[0] == ".":
        raise BadInput(f"selection {name!r} is no plain name", fix="use letters, digits, - _ and .")
    least, most = {**DEFAULT_MINIMUM, **(minimum or {})}, {**DEFAULT_MAXIMUM, **(maximum or {})}
    for column in (*least, *most):
        if column not in QUALITY:
            raise BadInput(f"no threshold can be put on {column!r}", fix=nearest(column, QUALITY))
    wanted, made = dataset.generation(generation)
    bare = Selection(
        name=name,
        generation=wanted,
        minimum={column: value for column, value in sorted(least.items()) if value > -np.inf},
        maximum={column: value for column, value in sorted(most.items()) if value < np.inf},
        needs_sound=needs_sound,
        rights=tuple(sorted(rights)),
        heldout_share=heldout_share,
        seed=seed,
        clips=_clips_digest(dataset, wanted),
    )
    counts: Counter[str] = Counter()
    splits: dict[str, str] = {}
    prints: list[bytes] = []
    offsets: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for shard in sorted(made.shards):
        columns = (*COLUMNS, "fingerprint", "av_offset", "av_confidence")
        for row in read_columns(dataset, shard, columns, wanted).to_pylist():
            if row["av_offset"] is not None and row["av_confidence"] >= OFFSET_CONFIDENCE:
                offsets[folder_of(row["source"])].append((row["av_offset"], row["av_confidence"]))
            refusal = bare.refusal(row)
            if refusal:
                counts[refusal] += 1
            else:
                splits[row["clip_id"]] = bare.split_of(row)
                prints.append(row["fingerprint"])
    duplicates = find_duplicates(list(splits), prints)
    counts["duplicate"] += len(duplicates)
    counts.update(f"kept:{split}" for clip, split in splits.items() if clip not in duplicates)
    agreed = {folder: common_offset(values) for folder, values in sorted(offsets.items())}
    return bare.model_copy(
        update={
            "duplicates": duplicates,
            "offsets": {folder: value for folder, value in agreed.items() if value is not None},
            "counts": {reason: count for reason, count in sorted(counts.items()) if count},
        }
    )


def common_offset(values: Iterable[tuple[float, float]]) -> float | None:
    """The offset that clips (seconds, confidence) agree on: their weighted median; None where they do not."""
    array = np.array(list(values), float).reshape(-1, 2)
    if len(array) < OFFSET_CLIPS:
        return None
    middle = _weighted_median(array[:, 0], array[:, 1])
    spread = _weighted_median(np.abs(array[:, 0] - middle), array[:, 1])
    return None if spread > OFFSET_SPREAD_S else round(middle, 3)


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def save_selection(dataset: Dataset, selection: Selection) -> Dataset:
    """Store a selection under its name; one of that name is replaced, its file stays until pruned."""
    data = selection.model_dump_json().encode()
    sha256 = hashlib.sha256(data).hexdigest()
    rows = sum(count for reason, count in selection.counts.items() if reason.startswith("kept:"))
    ref = FileRef(
        key=f"selection/{selection.name}-{sha256[:8]}.json", sha256=sha256, bytes=len(data), rows=rows
    )
    dataset.storage.put(ref.key, data)

    def change(manifest: Manifest) -> Manifest:
        return manifest.model_copy(update={"selections": {**manifest.selections, selection.name: ref}})

    return Dataset(dataset.storage, commit(dataset.storage, change))


def load_selection(dataset: Dataset, name: str) -> Selection:
    """A stored selection.

    Raises:
        NotFound: none of that name. BadInput: its file is not readable.
    """
    if name not in dataset.manifest.selections:
        have = ", ".join(dataset.manifest.selections) or "none"
        raise NotFound(
            f"{dataset.storage.root} has no selection {name!r}",
            fix=f"it has {have}; make one with ifmdm data select",
        )
    key = dataset.manifest.selections[name].key
    try:
        return Selection.model_validate_json(dataset.storage.get(key))
    except ValidationError as error:
        raise BadInput(f"{dataset.storage.root}/{key}: {error.errors()[0]['msg']}") from None


def is_outdated(dataset: Dataset, selection: Selection) -> bool:
    """Whether clips came or went since the selection was made."""
    return selection.clips != _clips_digest(dataset, selection.generation)


def _clips_digest(dataset: Dataset, generation: str) -> str:
    shards = dataset.generation(generation)[1].shards
    return digest({name: entry.sha256 for name, entry in shards.items()})
