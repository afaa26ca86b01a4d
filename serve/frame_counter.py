"""How many frames of video a fragmented MP4 has brought so far, counted while it comes."""

from __future__ import annotations


class FrameCounter:
    """Add pieces as they come; `frames` counts those of whole fragments."""

    def __init__(self) -> None:
        self.frames = 0
        self._held = bytearray()
        self._coming = 0

    def add(self, piece: bytes) -> None:
        """The next bytes."""
        self._held += piece
        while len(self._held) >= 8:
            size = int.from_bytes(self._held[:4], "big")
            if size < 8 or len(self._held) < size:
                return
            if self._held[4:8] == b"mdat":
                self.frames += self._coming  # the fragment whose header came before is whole now
                self._coming = 0
            elif self._held[4:8] == b"moof":
                self._coming = _samples(bytes(self._held[8:size]))
            del self._held[:size]


def _samples(moof: bytes) -> int:
    """Samples of the first track (the pictures) of a fragment's header."""
    count = 0
    for kind, body in _boxes(moof):
        if kind != b"traf":
            continue
        inner = list(_boxes(body))
        tracks = [int.from_bytes(data[4:8], "big") for name, data in inner if name == b"tfhd"]
        if tracks == [1]:
            count += sum(int.from_bytes(data[4:8], "big") for name, data in inner if name == b"trun")
    return count


def _boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8:
            break
        found.append((data[at + 4 : at + 8], data[at + 8 : at + size]))
        at += size
    return found
