"""Rows taken from old shards are the rows, in any order they are asked for."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifmdm_core.errors import Conflict
from pipelines.dataset.copy_rows import Piece, copied_features, copied_rows, joined, rows_by_span
from pipelines.dataset.plan import PlannedShard, Span


def test_every_row_belongs_to_one_span_in_the_plans_order(dataset):
    plan = dataset.plan()
    for shard in plan.shards:
        with dataset.clips(shard.name) as table:
            found = rows_by_span(table, shard, plan)
            assert [span for span, _ in found] == list(shard.spans)
            assert [row for _, piece in found for row in range(piece.start, piece.stop)] == list(
                range(table.num_rows)
            )
            names = table.column("source").to_pylist()
            for span, piece in found:
                assert set(names[piece.start : piece.stop]) == {plan.sources[span.source].file}


def test_parts_of_one_source_that_overlap_keep_their_own_rows(dataset):
    plan = dataset.plan()
    shard = plan.shards[0]
    source = plan.sources[shard.spans[0].source]
    other = source.model_copy(update={"source": f"{source.file}#1-9"})
    with dataset.clips(shard.name) as table:
        rows = table.slice(0, 2)
        twice = PlannedShard(
            name="x",
            spans=(Span(source=source.source, start=0, end=10), Span(source=other.source, start=0, end=9)),
        )
        both = plan.model_copy(update={"sources": {**plan.sources, other.source: other}})

        found = rows_by_span(pa.concat_tables([rows, rows]), twice, both)
    assert [(piece.start, piece.stop) for _, piece in found] == [(0, 2), (2, 4)]


def test_rows_of_another_plan_are_refused(dataset):
    plan = dataset.plan()
    with dataset.clips(plan.shards[0].name) as table, pytest.raises(Conflict, match="no planned span"):
        rows_by_span(table, plan.shards[1], plan)


def test_rows_and_features_come_in_the_order_asked_for(dataset):
    entries = dataset.generation()[1].shards
    pieces = [Piece("00001", 2, 4), Piece("00000", 0, 1), Piece("00001", 0, 1)]
    rows = list(copied_rows(dataset.storage, entries, pieces))
    wanted = []
    for piece in pieces:
        with dataset.clips(piece.shard) as table:
            wanted += table.slice(piece.start, len(piece)).to_pylist()
    assert rows == wanted
    for kind in ("speech", "motion"):
        features = dataset.features(kind)
        ids, values = copied_features(dataset.storage, features.shards, pieces, kind, features.dim)
        assert ids == [row["clip_id"] for row in rows]
        for row, value in zip(rows, values, strict=True):
            assert (value is None) == (kind == "speech" and row["audio"] is None)
            assert value is None or value.shape == (row["num_frames"], features.dim)


def test_a_damaged_shard_is_never_copied_from(dataset):
    entries = dataset.generation()[1].shards
    path = dataset.storage.local_path(entries["00000"].key)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(Conflict, match="sha256"):
        list(copied_rows(dataset.storage, entries, [Piece("00000", 0, 1)]))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 6), st.integers(0, 3))))
def test_joined_pieces_hold_the_same_rows(parts):
    pieces = [Piece(shard, start, start + count) for shard, start, count in parts]

    def rows(some):
        return [(piece.shard, row) for piece in some for row in range(piece.start, piece.stop)]

    whole = joined(pieces)
    assert rows(whole) == rows(pieces)
    assert all(len(piece) for piece in whole)
    assert len(whole) <= len(pieces)


def test_features_copied_are_not_views_of_a_closed_file(dataset):
    features = dataset.features("motion")
    _, values = copied_features(dataset.storage, features.shards, [Piece("00000", 0, 4)], "motion", 20)
    assert all(np.isfinite(value).all() and value.flags.owndata for value in values)
