"""Copies are found wherever they stand, other clips are not, the order of the clips does not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifmdm_core.errors import BadInput
from pipelines.dataset.duplicates import SILENT_PICTURE_BITS, find_duplicates


def prints(count: int, seed: int = 0, silent: bool = False) -> np.ndarray:
    """Fingerprints of unrelated clips, uint8 [count, 64]."""
    values = np.random.default_rng(seed).integers(0, 256, (count, 64)).astype(np.uint8)
    if silent:
        values[:, 24:] = 0
    return values


def flipped(print_: np.ndarray, bits: list[int]) -> np.ndarray:
    every = np.unpackbits(print_)
    every[bits] ^= 1
    return np.packbits(every)


def names(count: int) -> list[str]:
    return [f"{k:04d}" for k in range(count)]


def find(values: np.ndarray, ids: list[str] | None = None) -> dict[str, str]:
    return find_duplicates(ids or names(len(values)), [bytes(row) for row in values])


@settings(max_examples=60, deadline=None)
@given(
    bits=st.lists(st.integers(0, 511), max_size=23, unique=True).filter(
        lambda bits: sum(bit < 192 for bit in bits) <= 20
    ),
    place=st.integers(0, 39),
    seed=st.integers(0, 5),
)
def test_a_copy_that_differs_in_up_to_23_bits_is_always_found(bits: list[int], place: int, seed: int) -> None:
    others = prints(40, seed)
    found = find(np.concatenate([others, flipped(others[place], bits)[None]]))
    assert found == {"0040": f"{place:04d}"}


@settings(max_examples=30, deadline=None)
@given(bits=st.lists(st.integers(0, 191), max_size=SILENT_PICTURE_BITS, unique=True))
def test_without_sound_pictures_must_be_almost_the_same(bits: list[int]) -> None:
    others = prints(10, silent=True)
    assert find(np.concatenate([others, flipped(others[3], bits)[None]])) == {"0010": "0003"}
    further = [*bits, *[bit for bit in range(192) if bit not in bits][: 20 - len(bits)]]
    assert find(np.concatenate([others, flipped(others[3], further)[None]])) == {}


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(12)))
def test_the_order_does_not_matter_and_the_smallest_id_is_kept(order: list[int]) -> None:
    base = prints(9)
    values = np.concatenate([base, base[4:5], flipped(base[4], [3, 300])[None], flipped(base[7], [9])[None]])
    found = find(values[order], [names(12)[k] for k in order])
    assert found == {"0009": "0004", "0010": "0004", "0011": "0007"}


def test_same_pictures_with_another_sound_are_another_clip() -> None:
    base = prints(2)
    base[1, :24] = base[0, :24]
    assert find(base) == {}


def test_a_clip_with_sound_and_its_silent_twin_are_two() -> None:
    base = prints(2)
    base[1] = base[0]
    base[1, 24:] = 0
    assert find(base) == {}


def test_a_chain_of_copies_is_one_group() -> None:
    first = prints(1)[0]
    chain = [first]
    for k in range(10):
        chain.append(flipped(chain[-1], list(range(200 + k * 10, 210 + k * 10))))
    assert set(find(np.stack(chain)).values()) == {"0000"}


def test_a_thousand_equal_ones_are_one_group() -> None:
    assert len(find(np.repeat(prints(1), 1000, 0))) == 999


def test_nothing_and_nonsense() -> None:
    assert find_duplicates([], []) == {}
    with pytest.raises(BadInput, match="64 bytes"):
        find_duplicates(["a"], [b"short"])
