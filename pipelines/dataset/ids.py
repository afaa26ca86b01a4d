"""Names made of content: a *key* is a digest of inputs and decides what is done again; a sha256 is of bytes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pipelines.dataset.parameters import FORMAT


def digest(*values: Any, length: int = 32) -> str:
    """The first `length` hexadecimal digits of the sha256 of JSON-able values, in order."""
    text = json.dumps([FORMAT, *values], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def clip_id(source_sha256: str, start: float, end: float, generation: str) -> str:
    """A clip's name: the same content cut the same way has the same name wherever it lies."""
    return digest("clip", source_sha256, round(start, 6), round(end, 6), generation)


def feature_digest(kind: str, encoder: str, generation: str, **settings: Any) -> str:
    """The name of a feature set: what made it and from which clips. Batch size and device do not count."""
    return digest(kind, encoder, generation, settings, length=16)
