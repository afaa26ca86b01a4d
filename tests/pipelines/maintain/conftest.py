"""What several tests of maintenance look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import FeatureSet
from pipelines.dataset.shard_file import feature_values


def read_everything(dataset: Dataset) -> dict[str, tuple[Any, ...]]:
    """By clip id: the row, its newest speech and its newest motion."""
    sets: list[FeatureSet] = [dataset.features(kind) for kind in ("speech", "motion")]
    found: dict[str, tuple[Any, ...]] = {}
    for shard in dataset.generation()[1].shards:
        with dataset.aligned(shard, *sets) as (clips, *tables):
            for row, columns in enumerate(clips.to_pylist()):
                values = [
                    feature_values(table.column(features.kind), row, features.dim)
                    for table, features in zip(tables, sets, strict=True)
                ]
                assert columns["clip_id"] not in found
                found[columns["clip_id"]] = (columns, *[None if v is None else v.tobytes() for v in values])
    return found


@pytest.fixture(scope="session")
def contents() -> Callable[[Dataset], dict[str, tuple[Any, ...]]]:
    """`read_everything`."""
    return read_everything
