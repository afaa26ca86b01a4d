"""The feature shards of one clip shard: opened once, whatever number of feature sets is made from it."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from ifmdm_core.errors import BadInput, Conflict, NotFound, Unsupported
from ifmdm_core.storage import Storage
from pipelines.dataset.manifest import ShardEntry, feature_inputs
from pipelines.dataset.quarantine import QuarantineRecord
from pipelines.dataset.shard_file import feature_values, open_shard, write_feature_shard
from pipelines.features.encoders import FeatureEncoder, load_encoder


@dataclass(frozen=True)
class FeatureWanted:
    """A feature set that is being made."""

    kind: Literal["speech", "motion"]
    digest: str
    reference: str
    """bundle or checkpoint that the encoder is loaded from, on the worker's own disk or the hub"""
    layers: tuple[int, ...] | None
    """hidden states of a speech encoder; None takes what the reference says"""

    @property
    def stage(self) -> str:
        return f"{self.kind}-{self.digest}"


@dataclass(frozen=True)
class FeatureShardWork:
    """One clip shard, and which sets lack it."""

    name: str
    clips: ShardEntry
    seconds: float
    previous: dict[str, ShardEntry | None]
    """for each wanted set, by its digest: the shard as it was for older clip rows, whose values are kept"""


@dataclass
class FeatureResult:
    """The finished shard of one set."""

    name: str
    wanted: FeatureWanted
    entry: ShardEntry
    faults: list[QuarantineRecord]
    counts: Counter[str] = field(default_factory=Counter)
    waits: list[str] = field(default_factory=list)
    """what storage was waited for, and why"""


class FeatureShardBuilder:
    """Holds the encoders; makes shard after shard."""

    def __init__(
        self,
        storage: Storage,
        generation: str,
        wanted: list[FeatureWanted],
        device: str,
        batch: int,
        scratch: Path | None = None,
        decoders: int = 1,
    ) -> None:
        """Loads the encoders; `decoders` threads feed the motion encoder.

        Raises:
            Conflict: a reference holds another encoder here than on the driver's machine.
        """
        self._storage = storage
        self._scratch = scratch or Path(tempfile.gettempdir())
        self._device, self._batch, self._decoders = device, batch, decoders
        self._encoders = [(one, self._load(one, generation)) for one in wanted]

    def _load(self, one: FeatureWanted, generation: str) -> FeatureEncoder:
        encoder = load_encoder(one.kind, one.reference, self._device, self._batch, one.layers, self._decoders)
        found = encoder.identity.digest(generation)
        if found != one.digest:
            raise Conflict(
                f"{one.reference} makes {one.kind} features {found} here, {one.digest} on the submitting machine",
                fix="put the same model files on every node",
            )
        return encoder

    def warm_up(self) -> None:
        """Run every encoder once."""
        for _, encoder in self._encoders:
            encoder.warm_up()

    def build(self, work: FeatureShardWork) -> list[FeatureResult]:
        """Make the missing shards of all sets and upload them; the clip shard is opened once."""
        opened: Counter[str] = Counter()
        results = []
        with open_shard(self._storage, work.clips, "clips", self._scratch, opened, verify=True) as clips:
            for one, encoder in self._encoders:
                if one.digest in work.previous:
                    results.append(self._features(work, one, encoder, clips))
        if results:
            results[0].counts.update(opened)
        return results

    def _features(
        self, work: FeatureShardWork, one: FeatureWanted, encoder: FeatureEncoder, clips: pa.Table
    ) -> FeatureResult:
        ids = clips.column("clip_id").to_pylist()
        counts: Counter[str] = Counter()
        values: list[np.ndarray | None] = [None] * len(ids)
        kept = self._kept(work.previous[one.digest], one, encoder.identity.dim, counts)
        missing = []
        for row, name in enumerate(ids):
            if name in kept:
                values[row] = kept[name]
            else:
                missing.append(row)
        faults = []
        encoded = encoder.encode_rows(clips, missing)
        for row, value in zip(missing, encoded.values, strict=True):
            values[row] = value
        for fault in encoded.faults:
            faults.append(
                QuarantineRecord(
                    stage=one.stage,
                    shard=work.name,
                    source=clips.column("source")[fault.row].as_py(),
                    reason=fault.reason,
                    detail=fault.detail,
                    clip_id=ids[fault.row],
                    sha256=clips.column("source_sha256")[fault.row].as_py(),
                )
            )
        counts["rows_made"] += len(missing)
        counts["rows_copied"] += len(ids) - len(missing)
        entry = write_feature_shard(
            self._storage, f"{one.kind}/{one.digest}", work.name, one.kind, encoder.identity.dim, ids, values,
            inputs=feature_inputs(one.digest, work.clips), clips_key=work.clips.inputs, scratch=self._scratch,
        )  # fmt: skip
        counts["frames"] += entry.frames
        made = {"device": self._device, "batch": str(self._batch), **versions()}
        return FeatureResult(work.name, one, entry.model_copy(update={"made": made}), faults, counts)

    def _kept(
        self, previous: ShardEntry | None, one: FeatureWanted, dim: int, counts: Counter[str]
    ) -> dict[str, np.ndarray]:
        """Values of the shard as it was, by clip id; holes are tried again, a damaged shard keeps nothing."""
        if previous is None:
            return {}
        try:
            with open_shard(self._storage, previous, one.kind, self._scratch, counts, verify=True) as table:
                ids, column = table.column("clip_id").to_pylist(), table.column(one.kind)
                found = {name: feature_values(column, row, dim) for row, name in enumerate(ids)}
                return {name: value.copy() for name, value in found.items() if value is not None}
        except (NotFound, Conflict, BadInput, Unsupported):
            return {}


def versions() -> dict[str, str]:
    """Versions of what computes features: lineage, not identity."""
    import torch
    import transformers

    return {"torch": torch.__version__, "transformers": transformers.__version__}
