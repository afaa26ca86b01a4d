"""Names of sources: readable, valid Unicode, and the bytes they stand for."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.clips.names import escape_name, unescape_name


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"a b/clip 1.mp4", "a b/clip 1.mp4"),
        ("é/中文 😀.mp4".encode(), "é/中文 😀.mp4"),
        (b"caf\xe9.mp4", "caf\\xe9.mp4"),
        (b"back\\slash", "back\\x5cslash"),
        (b"\\xe9", "\\x5cxe9"),
        (b"new\nline\x7f", "new\\x0aline\\x7f"),
    ],
)
def test_how_names_are_shown(raw: bytes, shown: str) -> None:
    assert escape_name(raw) == shown
    assert unescape_name(shown) == raw


@given(st.binary(max_size=40))
def test_any_bytes_come_back_from_valid_text(raw: bytes) -> None:
    shown = escape_name(raw)
    assert unescape_name(shown) == raw
    shown.encode()
    assert shown.isprintable() or not any(ord(char) < 32 or ord(char) == 127 for char in shown)
    assert escape_name(os.fsdecode(raw)) == shown, "a name from the file system is the same name"


@given(st.lists(st.binary(max_size=8), unique=True, max_size=8))
def test_different_names_stay_different(names: list[bytes]) -> None:
    assert len({escape_name(name) for name in names}) == len(names)
