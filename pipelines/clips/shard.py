"""One clip shard from its planned spans: clips of unchanged spans are copied, the others are cut."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ifmdm_core.errors import BadInput, Conflict, Forbidden, NotFound, Unsupported
from ifmdm_core.media.decoder_process import DecoderProcess
from ifmdm_core.provenance import sha256_of_file
from ifmdm_core.storage import S3Config, Storage
from pipelines.clips.cut import CutClip, Fault, cut_span, warm_up
from pipelines.clips.sources import SourceItem, open_source
from pipelines.dataset.ids import clip_id
from pipelines.dataset.manifest import ShardEntry
from pipelines.dataset.parameters import ClipParameters
from pipelines.dataset.plan import PlannedSource, Span
from pipelines.dataset.quarantine import QuarantineRecord
from pipelines.dataset.shard_file import open_shard, write_clip_shard

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipShardWork:
    """What a worker needs to make one clip shard."""

    name: str
    spans: tuple[Span, ...]
    sources: dict[str, PlannedSource]
    """the sources of these spans, by name"""
    inputs: str
    """the shard's key"""
    previous: ShardEntry | None
    """the shard as it is now: rows of unchanged spans are taken from it"""
    faults: tuple[QuarantineRecord, ...] = ()
    """faults found before: unchanged spans are not tried again"""

    @property
    def seconds(self) -> float:
        return sum(span.end - span.start for span in self.spans)


@dataclass
class ShardResult:
    """A finished shard, what was refused, and what it took."""

    name: str
    entry: ShardEntry
    faults: list[QuarantineRecord]
    counts: Counter[str] = field(default_factory=Counter)
    """sources_opened, clips (shards opened), rows_cut, rows_copied, frames, seconds_of_video"""
    waits: list[str] = field(default_factory=list)
    """what storage was waited for, and why"""


class ClipShardBuilder:
    """Makes clip shards one after the other; its decoding child lives as long as it does."""

    def __init__(
        self, storage: Storage, parameters: ClipParameters, s3: S3Config | None, scratch: Path | None = None
    ) -> None:
        self._storage, self._parameters, self._s3 = storage, parameters, s3
        self._scratch = scratch or Path(tempfile.gettempdir())
        self._decoder = DecoderProcess()

    def warm_up(self) -> None:
        """Load the nets and start the decoder: a first shard that is slow would look like a late one."""
        warm_up()
        self._decoder.start()

    def build(self, work: ClipShardWork) -> ShardResult:
        """Make one shard and upload it; it exists once a manifest lists the result.

        Raises:
            Unavailable, DiskFull: storage or disk, not content: try again.
        """
        counts: Counter[str] = Counter()
        faults: list[QuarantineRecord] = []
        stage = f"clips-{self._parameters.generation}"
        with ExitStack() as stack:
            old = self._previous_rows(work, stack, counts)
            room = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="ifmdm-cut-", dir=self._scratch))
            )
            entry = write_clip_shard(
                self._storage, f"clips/{self._parameters.generation}", work.name,
                self._rows(work, old, stage, faults, counts, room),
                inputs=work.inputs, scratch=self._scratch,
            )  # fmt: skip
        counts["frames"] += entry.frames
        return ShardResult(work.name, entry, faults, counts)

    def _previous_rows(
        self, work: ClipShardWork, stack: ExitStack, counts: Counter[str]
    ) -> dict[str, list[dict[str, Any]]]:
        """Rows of the shard as it is, by source sha256; a damaged one is no source of rows."""
        if work.previous is None:
            return {}
        try:
            table = stack.enter_context(
                open_shard(self._storage, work.previous, "clips", self._scratch, counts, verify=True)
            )
        except (NotFound, Conflict, BadInput, Unsupported) as error:
            log.warning("shard %s is cut again whole: %s", work.name, error)
            return {}
        rows: dict[str, list[dict[str, Any]]] = {}
        for row in table.to_pylist():
            rows.setdefault(row["source_sha256"], []).append(row)
        return rows

    def _rows(
        self, work: ClipShardWork, old: dict[str, list[dict[str, Any]]], stage: str,
        faults: list[QuarantineRecord], counts: Counter[str], room: Path,
    ) -> Iterator[dict[str, Any]]:  # fmt: skip
        known = {(fault.source, fault.sha256, fault.span): fault for fault in work.faults}
        with ExitStack() as stack:
            opened: tuple[str, Path | Fault] | None = None
            for span in work.spans:
                source = work.sources[span.source]
                kept = [r for r in old.get(source.sha256, ()) if span.start <= r["span"][0] < span.end - 1e-9]
                fault = known.get((span.source, source.sha256, (span.start, span.end)))
                if kept or fault:
                    faults += [fault] if fault else []
                    for row in kept:
                        counts["rows_copied"] += 1
                        yield {**row, "source": source.file, **source.said}
                    continue
                if opened is None or opened[0] != span.source:
                    stack.close()
                    counts["sources_opened"] += 1
                    opened = span.source, self._open(source, room, stack)
                clips, found = self._cut(opened[1], span)
                for new in found:
                    faults.append(
                        QuarantineRecord(
                            stage=stage,
                            shard=work.name,
                            source=span.source,
                            reason=new.reason,
                            detail=new.detail,
                            span=(span.start, span.end),
                            sha256=source.sha256,
                            stamp=source.stamp,
                        )
                    )
                counts["seconds_of_video"] += round(span.end - span.start)
                for clip in clips:
                    counts["rows_cut"] += 1
                    yield self._row(clip, source)

    def _open(self, source: PlannedSource, room: Path, stack: ExitStack) -> Path | Fault:
        """The source as a local file, the very one that was planned."""
        item = SourceItem(source=source.file, uri=source.uri, size=source.size, stamp=source.stamp)
        try:
            path = stack.enter_context(open_source(item, self._s3, room))
        except (NotFound, Forbidden) as error:
            return Fault("missing" if isinstance(error, NotFound) else "forbidden", str(error))
        if sha256_of_file(path) != source.sha256:
            return Fault("changed", f"{source.file}: its content changed after it was planned; run again")
        return path

    def _cut(self, path: Path | Fault, span: Span) -> tuple[list[CutClip], list[Fault]]:
        if isinstance(path, Fault):
            return [], [path]
        return cut_span(path, span.start, span.end, self._parameters, self._decoder)

    def _row(self, clip: CutClip, source: PlannedSource) -> dict[str, Any]:
        columns = {name: value for name, value in vars(clip).items() if name not in ("start", "end")}
        return {
            **columns,
            "clip_id": clip_id(source.sha256, clip.start, clip.end, self._parameters.generation),
            "source": source.file,
            "source_sha256": source.sha256,
            "span": [clip.start, clip.end],
            **source.said,
        }
