"""Near-duplicates by fingerprint: the same clip encoded again, made smaller or quieter.

Two clips are one when few bits of their pictures and few of their sound differ. Comparing all pairs of millions is
out of reach, so the bits are dealt into bands and only clips that agree in a whole band are compared: with 24 bands
any two clips that differ in at most 23 bits agree in one for certain, and those that differ in 40 almost surely.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.errors import BadInput

PICTURE_BYTES = 24
SOUND_BYTES = 40
BANDS = 24
PICTURE_BITS = 20
"""Most picture bits, of 192, in which copies differ."""
SOUND_BITS = 50
"""Most sound bits, of 320, in which copies differ. Measured: copies at half the size and crf 30 differ in at most
10 picture and 19 sound bits, other sentences of one speaker in one studio in as little as 1 and at least 109."""
SILENT_PICTURE_BITS = 5
"""Most picture bits where neither clip has sound: pictures alone must then be almost the same."""
_PAIRS = 1 << 18  # compared at a time
_ONES = np.array([bin(value).count("1") for value in range(256)], np.uint8)

Bytes = NDArray[np.uint8]


def find_duplicates(clip_ids: Sequence[str], fingerprints: Sequence[bytes]) -> dict[str, str]:
    """Which clips are copies of which: clip id -> the keeper's, the smallest id of the group; keepers are left out.

    Clips with sound and clips without are never one group. The order of the arguments does not matter.

    Raises:
        BadInput: a fingerprint is not 64 bytes long.
    """
    if not clip_ids:
        return {}
    if any(len(print_) != PICTURE_BYTES + SOUND_BYTES for print_ in fingerprints):
        raise BadInput(f"a fingerprint is not {PICTURE_BYTES + SOUND_BYTES} bytes long")
    every = np.frombuffer(b"".join(fingerprints), np.uint8).reshape(len(clip_ids), -1)
    prints, which = np.unique(every, axis=0, return_inverse=True)  # equal ones need no comparing
    group = np.arange(len(prints))
    for first, second in _close_pairs(prints):
        _join(group, first, second)
    keepers: dict[int, str] = {}
    roots = [_root(group, int(number)) for number in which.reshape(-1)]
    for root, clip in zip(roots, clip_ids, strict=True):
        keepers[root] = min(clip, keepers.get(root, clip))
    pairs = ((clip, keepers[root]) for root, clip in zip(roots, clip_ids, strict=True))
    return {clip: keeper for clip, keeper in sorted(pairs) if clip != keeper}


def differing_bits(first: Bytes, second: Bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bits of pictures and of sound in which fingerprints [n, 64] and [n, 64] differ, row by row: [n], [n]."""
    ones = _ONES[first ^ second].astype(np.int64)
    return ones[:, :PICTURE_BYTES].sum(1), ones[:, PICTURE_BYTES:].sum(1)


def _close_pairs(prints: Bytes) -> Iterator[tuple[int, int]]:
    """Pairs of rows of distinct fingerprints [n, 64] that are copies; a pair may come more than once."""
    silent = ~prints[:, PICTURE_BYTES:].any(1)
    for rows, limits in (
        (np.flatnonzero(~silent), (PICTURE_BITS, SOUND_BITS)),
        (np.flatnonzero(silent), (SILENT_PICTURE_BITS, 0)),
    ):
        for first, second in _candidates(prints[rows], sound=limits[1] > 0):
            first, second = rows[first], rows[second]
            picture, sound = differing_bits(prints[first], prints[second])
            close = (picture <= limits[0]) & (sound <= limits[1])
            yield from zip(first[close].tolist(), second[close].tolist(), strict=True)


def _candidates(prints: Bytes, sound: bool) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of rows that agree in a whole band, in blocks."""
    if len(prints) < 2:
        return
    for key in _bands(prints, sound):
        order = np.argsort(key, kind="stable")
        key = key[order]
        first, lag = np.arange(len(key) - 1), 1  # rows with the same key lie side by side
        while len(first := first[first + lag < len(key)]):
            first = first[key[first] == key[first + lag]]
            for block in range(0, len(first), _PAIRS):
                part = first[block : block + _PAIRS]
                yield order[part], order[part + lag]
            lag += 1


def _bands(prints: Bytes, sound: bool) -> Iterator[NDArray[np.uint64]]:
    """Every band's bits as a number, [n]: with sound 24 of 8 + 13 bits, else 6 of 32 picture bits.

    Bits are dealt in a fixed mixed order: neighbours in time or place change together.
    """
    bits = np.unpackbits(prints, axis=1)  # [n, 512]
    pictures = np.random.default_rng(0).permutation(PICTURE_BYTES * 8)
    sounds = np.random.default_rng(1).permutation(SOUND_BYTES * 8) + PICTURE_BYTES * 8
    if sound:
        dealt = [np.concatenate([pictures[k::BANDS], sounds[k::BANDS]]) for k in range(BANDS)]
    else:
        count = SILENT_PICTURE_BITS + 1
        dealt = [pictures[k::count] for k in range(count)]
    for chosen in dealt:
        weights = np.left_shift(np.uint64(1), np.arange(len(chosen), dtype=np.uint64))
        key = np.zeros(len(bits), np.uint64)
        for bit, weight in zip(chosen, weights, strict=True):
            key += bits[:, bit] * weight
        yield key


def _root(group: NDArray[np.int64], number: int) -> int:
    while group[number] != number:
        group[number] = group[group[number]]
        number = int(group[number])
    return int(number)


def _join(group: NDArray[np.int64], first: int, second: int) -> None:
    a, b = _root(group, first), _root(group, second)
    group[max(a, b)] = min(a, b)
