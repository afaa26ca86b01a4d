"""Portions of one size from portions of any."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from ifmdm_core.motion.chunks import Chunks, rechunk


@given(st.lists(st.integers(0, 30), max_size=6), st.integers(1, 12))
def test_all_rows_come_out_in_order_and_size(portions, size):
    rows = torch.arange(sum(portions))[:, None]
    parts = list(rechunk(rows.split(portions) if portions else [], size))
    assert [len(part) for part in parts[:-1]] == [size] * (len(parts) - 1)
    assert all(0 < len(part) <= size for part in parts)
    assert torch.equal(torch.cat(parts) if parts else rows, rows)


def test_a_chunk_leaves_with_the_row_that_fills_it():
    chunks = Chunks(8)
    assert not list(chunks.push(torch.zeros(7, 3)))
    assert [len(chunk) for chunk in chunks.push(torch.zeros(10, 3))] == [8, 8]
    assert [len(chunk) for chunk in chunks.rest()] == [1]
