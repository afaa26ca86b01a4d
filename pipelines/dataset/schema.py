"""Arrow schemas of the three kinds of shards. Plain pyarrow and pandas read them; nothing is an extension type.

Rows of a feature shard belong, in order, to the rows of the clip shard whose key stands in its metadata; a clip
without features (no sound, a fault) is a null there, never a missing row.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from ifmdm_core.errors import BadInput, Unsupported
from pipelines.dataset.parameters import FORMAT

MOTION_DIM = 20
KINDS = ("clips", "speech", "motion")

CLIPS = pa.schema(
    [
        pa.field("clip_id", pa.string(), False),  # 32 hexadecimal digits
        pa.field("source", pa.string(), False),  # relative to SOURCE, UTF-8; other bytes as \xNN
        pa.field("source_sha256", pa.string(), False),
        pa.field("span", pa.list_(pa.float64(), 2), False),  # start, end: s from the source's first frame
        pa.field("num_frames", pa.int32(), False),
        pa.field("size", pa.int32(), False),  # side of the stored pictures, pixels
        pa.field("face_box", pa.list_(pa.float32(), 4), False),  # x, y, w, h: medians, pixels of the source
        pa.field("crop_box", pa.list_(pa.float32(), 3), False),  # x0, y0, side of the square, same pixels
        pa.field("av_offset", pa.float32()),  # seconds that the sound comes late, by this clip alone
        pa.field("av_confidence", pa.float32()),  # of that estimate
        pa.field("face_size", pa.float32(), False),  # longer side of the face box, pixels of the source
        pa.field("sharpness", pa.float32(), False),  # variance of the face's Laplacian
        pa.field("brightness", pa.float32(), False),  # mean luma of the face, 0..1
        pa.field("head_motion", pa.float32(), False),  # deviation of the face's centre, in face sizes
        pa.field("loudness", pa.float32()),  # dBFS
        pa.field("speech_share", pa.float32()),  # part of the frames with speech, 0..1
        pa.field("fingerprint", pa.binary(64), False),  # of pictures and sound, for near-duplicates
        pa.field("identity", pa.string()),
        pa.field("labels", pa.list_(pa.string()), False),
        pa.field("rights", pa.string()),
        pa.field("consent", pa.string()),
        pa.field("split", pa.string()),  # as the source list says
        pa.field("video", pa.large_binary(), False),  # MP4, H.264, 25 fps
        pa.field("audio", pa.large_binary()),  # FLAC, 16 kHz mono, from the first frame on
    ]
)


def feature_schema(kind: str, dim: int) -> pa.Schema:
    """The schema of `speech` (float16, any width) or `motion` (float32, 20 numbers a frame) shards."""
    if kind == "motion":
        column = pa.list_(pa.list_(pa.float32(), dim))
    elif kind == "speech":
        column = pa.large_list(pa.list_(pa.float16(), dim))
    else:
        raise BadInput(f"no features of kind {kind!r}", fix="speech or motion")
    return pa.schema([pa.field("clip_id", pa.string(), False), pa.field(kind, column)])


def with_metadata(schema: pa.Schema, kind: str, values: Mapping[str, str]) -> pa.Schema:
    """`schema` naming itself, its version and what the shard was made from."""
    own = {"ifmdm.schema": f"ifmdm.{kind}", "ifmdm.version": FORMAT}
    return schema.with_metadata({**own, **{f"ifmdm.{key}": text for key, text in values.items()}})


def metadata_of(schema: pa.Schema) -> dict[str, str]:
    """The `ifmdm.` metadata of a shard, without that prefix."""
    items = (schema.metadata or {}).items()
    return {k.decode().removeprefix("ifmdm."): v.decode() for k, v in items if k.startswith(b"ifmdm.")}


def check_schema(schema: pa.Schema, kind: str, name: str) -> None:
    """Refuse a shard that this version cannot read.

    Raises:
        Unsupported: another major version of the format.
        BadInput: not a shard of this kind, or a column with another name or type.
    """
    found = metadata_of(schema)
    if found.get("schema") != f"ifmdm.{kind}":
        raise BadInput(f"{name} is no {kind} shard: its schema is {found.get('schema')!r}")
    version = found.get("version", "")
    if version.partition(".")[0] != FORMAT.partition(".")[0]:
        raise Unsupported(f"{name} has format {version}, this program reads {FORMAT}", fix="update ifmdm")
    if kind == "clips":
        expected = CLIPS
    else:
        expected = feature_schema(kind, int(found.get("dim", MOTION_DIM)))
    if not schema.equals(expected, check_metadata=False):
        ours, theirs = set(map(str, expected)), set(map(str, schema))
        raise BadInput(f"{name} has other columns: {sorted(ours ^ theirs)}")
