"""The clips that are measured on: of a dataset's held-out split, or of a folder of videos."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.metrics.stage import find_clips
from ifmdm_core.provenance import sha256_of_file
from ifmdm_core.storage import S3Config, open_storage
from pipelines.dataset.columns import read_columns
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.ids import digest
from pipelines.dataset.manifest import latest
from pipelines.dataset.selection import COLUMNS, load_selection


class HeldClip(BaseModel):
    """One clip and where it lies; enough for any worker to fetch it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="unique, and good as a file name")
    kind: str = Field(description="clips of a kind are reported apart: their folder's name")
    content: str = Field(description="clip_id, or sha256 of the file")
    path: str = Field("", description="the video; empty for a dataset's clip")
    generation: str = ""
    shard: str = ""
    row: int = 0


def held_out_clips(
    uri: str,
    s3: S3Config | None = None,
    *,
    split: str = "heldout",
    selection: str | None = None,
    generation: str | None = None,
) -> list[HeldClip]:
    """Clips of a dataset's split that have sound, or all videos under a folder; sorted by name.

    Raises:
        NotFound: neither a dataset nor a folder with videos. BadInput: the split is empty.
    """
    if latest(open_storage(uri, s3)).number >= 0:
        return _of_dataset(Dataset.open(uri, s3), split, selection, generation)
    if "://" in uri:
        raise NotFound(f"{uri} is no dataset: it has no manifests", fix="make one with ifmdm data clips")
    if not Path(uri).is_dir():
        raise NotFound(
            f"{uri}: no such dataset or folder", fix="give a dataset, or a folder of talking videos"
        )
    folder = Path(uri).resolve()
    found = []
    for path, kind in find_clips(folder):
        name = "__".join(path.relative_to(folder).with_suffix("").parts)
        found.append(HeldClip(name=name, kind=kind, content=sha256_of_file(path), path=str(path)))
    doubled = [name for name, count in Counter(clip.name for clip in found).items() if count > 1]
    if doubled:
        raise BadInput(f"{uri} has two videos named {doubled[0]!r}", fix="rename one of them")
    return found


def _of_dataset(
    dataset: Dataset, split: str, selection: str | None, generation: str | None
) -> list[HeldClip]:
    chosen = load_selection(dataset, selection) if selection else None
    name, made = dataset.generation(chosen.generation if chosen and not generation else generation)
    found: list[HeldClip] = []
    splits: Counter[str] = Counter()
    for shard in sorted(made.shards):
        for number, row in enumerate(read_columns(dataset, shard, COLUMNS, name).to_pylist()):
            if row["loudness"] is None or (chosen and chosen.refusal(row)):
                continue
            its = chosen.split_of(row) if chosen else row["split"]
            splits[its or "none"] += 1
            if its == split:
                kind = PurePosixPath(row["source"]).parent.name or "clips"
                clip = row["clip_id"]
                found.append(
                    HeldClip(name=clip, kind=kind, content=clip, generation=name, shard=shard, row=number)
                )
    if not found:
        have = ", ".join(f"{count} {its}" for its, count in sorted(splits.items())) or "no clips with sound"
        raise BadInput(
            f"{dataset.storage.root} has no clip of split {split!r}",
            fix=f"it has {have}; give --split, or a --selection that splits by person",
        )
    return sorted(found, key=lambda clip: clip.name)


def spread(clips: Sequence[HeldClip], limit: int | dict[str, int]) -> list[HeldClip]:
    """At most so many of each kind, spread over the list so that not one person fills it.

    Args:
        limit: of each kind; or by kind, with those not named getting as many as `clips`.
    """
    chosen: list[HeldClip] = []
    for kind in sorted({clip.kind for clip in clips}):
        its = [clip for clip in clips if clip.kind == kind]
        most = limit if isinstance(limit, int) else limit.get(kind, limit["clips"])
        chosen += its[:: max(1, len(its) // most)][:most]
    return chosen


def clips_digest(clips: Sequence[HeldClip]) -> str:
    """Of the clips' contents, wherever they lie."""
    return digest({"clips": sorted(clip.content for clip in clips)})


def fetch(clip: HeldClip, uri: str, s3: S3Config | None, folder: Path) -> Path:
    """The clip as a video file with sound; a dataset's is written to the folder, its pictures bit for bit.

    Raises:
        NotFound: the file is gone, or not on this node.
    """
    if clip.path:
        if not Path(clip.path).is_file():
            raise NotFound(f"{clip.path}: no such video on this node", fix="share the folder with all nodes")
        return Path(clip.path)
    with Dataset.open(uri, s3).clips(clip.shard, clip.generation) as table:
        row = table.slice(clip.row, 1).select(["clip_id", "video", "audio"]).to_pylist()[0]
    if row["clip_id"] != clip.content:
        raise NotFound(
            f"{uri}: clip {clip.content} is no longer where it was", fix="start the evaluation again"
        )
    path = folder / f"{clip.name}.mp4"
    path.write_bytes(with_sound(row["video"], row["audio"]))
    return path


def with_sound(video: bytes, sound: bytes) -> bytes:
    """An MP4 with the packets of both files as they are: H.264 pictures, FLAC sound."""
    import av

    file = io.BytesIO()
    with (
        av.open(io.BytesIO(video)) as pictures,
        av.open(io.BytesIO(sound)) as tones,
        av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as whole,
    ):
        streams = [
            (source, whole.add_stream_from_template(source.streams[0])) for source in (pictures, tones)
        ]
        for source, target in streams:  # both are there before the header is written with the first packet
            for packet in source.demux(source.streams[0]):
                if packet.dts is not None:
                    packet.stream = target
                    whole.mux(packet)
    return file.getvalue()
