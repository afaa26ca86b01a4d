"""What a file is by its first bytes: refuses the obviously wrong before any decoder sees it. Standard library only.

Pictures must begin like one of the kinds that are read. Sound has too many kinds for that (and MP3 none of its own),
so there only what is certainly something else is refused, with a name for it.
"""

from __future__ import annotations

import re

from ifmdm_core.errors import BadInput

HEAD = 64
"""Bytes that are enough to tell."""

_PICTURES = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF8",
    b"BM",
    b"II*\0", b"MM\0*", b"II+\0", b"MM\0+",  # TIFF, BigTIFF
    b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51",  # JPEG 2000, bare or in a container
)  # fmt: skip
_PORTABLE = re.compile(rb"P[1-6fy]\s")  # PPM and its kin
_STILLS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
_OTHERS = (
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x7fELF", "a program"),
    (b"#EXTM3U", "a playlist"),
    (b"ffconcat", "a playlist"),
    (b"<?xml", "XML"),
)
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e]{16,}")


def check_portrait(head: bytes, name: str) -> None:
    """Raises BadInput unless a file that begins with `head` can be a picture; `name` is what messages call it."""
    if not _is_picture(head):
        raise BadInput(
            f"{name}: is {_other(head)}, no picture", fix="give a JPEG, PNG, WebP, TIFF or BMP file"
        )


def check_audio(head: bytes, name: str) -> None:
    """Raises BadInput where a file that begins with `head` cannot be sound."""
    what = "a picture" if _is_picture(head) else _other(head)
    if what != _UNKNOWN:
        raise BadInput(f"{name}: is {what}, no sound", fix="give a recording, such as WAV or MP3")


_UNKNOWN = "something else"


def _is_picture(head: bytes) -> bool:
    return (
        head.startswith(_PICTURES)
        or _PORTABLE.match(head) is not None
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:12] in _STILLS)
    )


def _other(head: bytes) -> str:
    if not head:
        return "empty (0 bytes)"
    for start, what in _OTHERS:
        if head.lstrip().startswith(start):
            return what
    return "text" if _TEXT.fullmatch(head) else _UNKNOWN
