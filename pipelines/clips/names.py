"""Names of sources as text: any bytes of a file name, written in UTF-8 and readable back.

A byte that is not UTF-8, a control character and the backslash itself are written `\\xNN`.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


def escape_name(name: bytes | str) -> str:
    """A file name or object key as valid UTF-8 text without control characters or ambiguity."""
    raw = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    return "".join(map(_shown, raw.decode("utf-8", "surrogateescape")))


def unescape_name(name: str) -> bytes:
    """The bytes that `escape_name` was given."""
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), name.encode())


def _shown(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # how surrogateescape shows a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 32 or code == 127 or char == "\\" else char
