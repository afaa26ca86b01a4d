"""The motion of an attempt at rest, so that the next one goes straight to decoding: motion-<bundle8>.arrow.

An Arrow file with one row a frame at the output's frame rate: `motion` float32[20], `opening` float32. What the motion
follows from is in its metadata, and the sha256 of its numbers; with anything else it is not taken over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import IfmdmError, NotFound
from ifmdm_core.motion.config import MOTION_DIM
from ifmdm_core.storage import Storage
from jobs.rendering.attempt_log import AttemptLog
from serve.flow_motion import MotionTrack

FORMAT = "ifmdm.render-motion/1"
"""Of files like this one; a change of any kind gets another number."""
_SCHEMA = pa.schema(
    [
        pa.field("motion", pa.list_(pa.float32(), MOTION_DIM), nullable=False),
        pa.field("opening", pa.float32(), nullable=False),
    ]
)


@dataclass(frozen=True)
class MotionOrigin:
    """All that a motion follows from."""

    bundle: str
    """sha256 of bundle.json."""
    controls: RenderControls
    portrait: str
    """Digest of the aligned portrait."""
    audio: str
    """sha256 of the recording's bytes."""

    def key(self, folder: str) -> str:
        """Where an attempt keeps it."""
        return f"{folder}/motion-{self.bundle[:8]}.arrow"

    def metadata(self) -> dict[str, str]:
        """As it stands in the file."""
        controls = json.dumps(self.controls.model_dump(mode="json"), sort_keys=True)
        return {
            "format": FORMAT,
            "bundle": self.bundle,
            "seed": str(self.controls.seed),
            "controls": hashlib.sha256(controls.encode()).hexdigest(),
            "portrait": self.portrait,
            "audio": self.audio,
        }


def store_motion(
    storage: Storage, folder: str, origin: MotionOrigin, track: MotionTrack, log: AttemptLog
) -> None:
    """Keeps the motion in an attempt's folder. It only saves work later, so a failure is only logged."""
    key = origin.key(folder)
    try:
        storage.put(key, _packed(origin, track))
    except Exception as error:
        log.note("motion not stored", key=key, error=str(error))
    else:
        log.note("motion stored", key=key)


def find_motion(
    storage: Storage, folders: Iterable[str], origin: MotionOrigin, frames: int, log: AttemptLog
) -> MotionTrack | None:
    """The motion of the first of these attempts that kept one which fits; the others are logged with what is wrong."""
    for folder in folders:
        key = origin.key(folder)
        try:
            return _unpacked(storage.get(key), origin, frames)
        except NotFound:
            continue
        except (IfmdmError, _Unfit, pa.ArrowException, ValueError) as error:
            log.note("stored motion ignored", key=key, error=str(error))
    return None


class _Unfit(Exception):
    """Why stored motion is not taken over."""


def _packed(origin: MotionOrigin, track: MotionTrack) -> bytes:
    metadata = {**origin.metadata(), "frames": str(len(track.motion)), "sha256": _sha256(track)}
    flat = pa.array(np.ascontiguousarray(track.motion, np.float32).ravel())
    columns = [pa.FixedSizeListArray.from_arrays(flat, MOTION_DIM), pa.array(track.opening, pa.float32())]
    table = pa.table(columns, schema=_SCHEMA.with_metadata(metadata))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _unpacked(data: bytes, origin: MotionOrigin, frames: int) -> MotionTrack:
    table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
    said = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
    for name, value in {**origin.metadata(), "frames": str(frames)}.items():
        if said.get(name) != value:
            raise _Unfit(f"its {name} is {said.get(name)}, wanted is {value}")
    if not table.schema.equals(_SCHEMA) or table.num_rows != frames:
        raise _Unfit(f"{table.num_rows} rows of {table.schema.names} for {frames} frames")
    columns = table.combine_chunks()
    motion = columns["motion"].chunk(0).flatten().to_numpy().reshape(frames, MOTION_DIM)
    track = MotionTrack(motion, columns["opening"].chunk(0).to_numpy())
    if _sha256(track) != said.get("sha256"):
        raise _Unfit("it is damaged: its numbers have another sha256 than it says")
    return track


def _sha256(track: MotionTrack) -> str:
    total = hashlib.sha256(np.asarray(track.motion, "<f4").tobytes())
    total.update(np.asarray(track.opening, "<f4").tobytes())
    return total.hexdigest()
