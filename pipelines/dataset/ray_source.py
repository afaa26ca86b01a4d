"""The shards of a dataset for Ray Data: batch inference over a cluster. (Training reads with `reader`.)

    clips = read_dataset("s3://bucket/set", columns=["clip_id", "video"])
    clips.map_batches(Judge, batch_size=8).write_parquet("s3://bucket/judged")

The only module of this package that needs Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.data
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from ifmdm_core.errors import BadInput
from ifmdm_core.storage import S3Config, open_storage
from pipelines.dataset.columns import read_batches
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import ShardEntry
from pipelines.dataset.schema import KINDS


def read_dataset(
    uri: str | Path,
    kind: str = "clips",
    columns: Sequence[str] | None = None,
    *,
    digest: str | None = None,
    generation: str | None = None,
    s3: S3Config | None = None,
) -> ray.data.Dataset:
    """The rows of the latest manifest's shards of a kind, one read task a shard, in no order.

    Args:
        uri: the dataset; a folder must be reachable from every node.
        kind: `clips`, `speech` or `motion`; holes come as nulls.
        columns: only these are read.
        digest: of the feature set; None: the newest.
        generation: of the clips; None: the current one.

    Raises:
        NotFound: no such dataset or feature set. BadInput: another kind.
    """
    if kind not in KINDS:
        raise BadInput(f"no shards of kind {kind!r}", fix=f"one of {', '.join(KINDS)}")
    dataset = Dataset.open(uri, s3)
    if kind == "clips":
        shards = dataset.generation(generation)[1].shards
    else:
        shards = dataset.features(kind, digest, generation).shards
    entries = [shards[name] for name in sorted(shards)]
    return ray.data.read_datasource(_Shards(str(dataset.storage.root), s3, entries, kind, columns))


class _Shards(Datasource):
    """Reads through `ifmdm_core.storage` with the settings given; what tasks carry is a key, never rows."""

    def __init__(
        self,
        root: str,
        s3: S3Config | None,
        entries: Sequence[ShardEntry],
        kind: str,
        columns: Sequence[str] | None,
    ) -> None:
        super().__init__()
        self.root, self.s3, self.entries, self.kind, self.columns = root, s3, entries, kind, columns

    def get_name(self) -> str:
        return f"Ifmdm{self.kind.capitalize()}"

    def estimate_inmemory_data_size(self) -> int:
        return sum(entry.bytes for entry in self.entries)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        return [
            ReadTask(
                _reader(self.root, self.s3, entry, self.kind, self.columns),
                BlockMetadata(
                    num_rows=entry.rows,
                    size_bytes=entry.bytes,
                    input_files=[f"{self.root}/{entry.key}"],
                    exec_stats=None,
                ),
                per_task_row_limit=per_task_row_limit,
            )
            for entry in self.entries
        ]


def _reader(
    root: str, s3: S3Config | None, entry: ShardEntry, kind: str, columns: Sequence[str] | None
) -> Callable[[], Iterable[pa.Table]]:
    def read() -> Iterator[pa.Table]:
        for batch in read_batches(open_storage(root, s3), entry, kind, columns):
            yield pa.Table.from_batches([batch])

    return read
