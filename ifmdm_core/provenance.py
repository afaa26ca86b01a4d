"""Marks that say a video was made by a model: container tags that survive copying, not re-encoding.

They are a courtesy to whoever looks, no proof: anyone can strip them. Signed manifests (C2PA) belong to serving.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ifmdm_core import __version__

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's word for media made by a trained model."""
TAG = "ifmdm"
"""Name of the container tag that holds our JSON record."""


def synthetic_tags(
    *,
    model: str,
    model_sha256: str,
    inputs: dict[str, str] | None = None,
    controls: dict[str, Any] | None = None,
    consent: str | None = None,
) -> dict[str, str]:
    """Container tags for a rendered video.

    Args:
        model: name of the bundle that rendered it.
        model_sha256: digest of the bundle's record.
        inputs: sha256 of each input by its role ("photo", "audio"); never file names, which may be private.
        controls: the controls of the render, so that it can be repeated.
        consent: reference to the consent of the person shown; where there is none, the record does not speak of it.
    """
    record: dict[str, Any] = {
        "ai_generated": True,
        "generator": f"ifmdm {__version__}",
        "model": model,
        "model_sha256": model_sha256,
        "inputs": inputs or {},
        "controls": {name: _plain(value) for name, value in (controls or {}).items()},
    }
    if consent is not None:
        record["consent"] = consent
    return {
        "comment": f"AI-generated: a still photo animated by ifmdm {__version__} (model {model}); nobody was filmed",
        "digital_source_type": SOURCE_TYPE,
        TAG: json.dumps(record, sort_keys=True, separators=(",", ":")),
    }


def read_tags(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The record `synthetic_tags` left in a video file, or None where there is none (or it was altered past reading).

    Raises:
        NotFound, BadInput: no such file, not a video.
    """
    from ifmdm_core.media.container import opened

    with opened(path, "video") as (container, _):
        text = container.metadata.get(TAG)
    try:
        record = json.loads(text) if text else None
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) and record.get("ai_generated") is True else None


def _plain(value: Any) -> Any:
    """A box as "x,y,w,h", which `RenderControls` takes too: C2PA's readers give a list of numbers back as bytes."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else value


def sha256_of(data: bytes | memoryview) -> str:
    """Hex digest of some bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: str | Path) -> str:
    """Hex digest of a file's bytes, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
