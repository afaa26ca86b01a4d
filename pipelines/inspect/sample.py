"""Clips to look at: a contact sheet or a video, each clip's motion drawn with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ifmdm_core.errors import BadInput
from ifmdm_core.media.clip_codec import decode_clip, encode_clip
from ifmdm_core.media.files import published
from pipelines.dataset.columns import read_columns
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import FeatureSet
from pipelines.dataset.selection import COLUMNS, Selection
from pipelines.dataset.shard_file import feature_values

Pixels = NDArray[np.uint8]

TEXT_HEIGHT = 18
WHITE, BLACK, GREY = (255, 255, 255), (40, 40, 40), (205, 205, 205)
STILLS = 8
"""Pictures of a clip on a contact sheet."""
LEAST_REACH = 0.1
"""Motion smaller than this is not drawn larger."""


@dataclass(frozen=True)
class Picked:
    """A clip with what is drawn of it."""

    row: dict[str, Any]
    video: bytes
    motion: NDArray[np.float32] | None
    """[n, 20]; None: a hole, or no motion set was given"""


def pick(
    dataset: Dataset,
    count: int,
    seed: int,
    *,
    motion: FeatureSet | None = None,
    selection: Selection | None = None,
    split: str | None = None,
    identity: str | None = None,
    source: str = "*",
    generation: str | None = None,
) -> list[Picked]:
    """`count` clips at random (fewer where there are fewer), by seed, in the order of their sources.

    Args:
        identity: only this person.
        source: only sources whose name matches this pattern (`*` and `?`).

    Raises:
        BadInput: no clip fits.
    """
    if motion:
        generation = motion.generation
    elif selection:
        generation = selection.generation
    name, made = dataset.generation(generation)
    fitting: list[tuple[str, int]] = []
    for shard in sorted(made.shards):
        for number, row in enumerate(read_columns(dataset, shard, COLUMNS, name).to_pylist()):
            if selection and selection.refusal(row):
                continue
            found = selection.split_of(row) if selection else row["split"]
            if (
                split in (None, found)
                and identity in (None, row["identity"])
                and fnmatch(row["source"], source)
            ):
                fitting.append((shard, number))
    if not fitting:
        raise BadInput("no clip fits", fix="ask for less: --split, --identity, --source, --selection")
    order = np.random.default_rng(seed).permutation(len(fitting))[:count]
    wanted = sorted(fitting[k] for k in order)
    picked: list[Picked] = []
    for shard in sorted({shard for shard, _ in wanted}):
        numbers = [number for held, number in wanted if held == shard]
        picked += _read(dataset, shard, numbers, name, motion)
    return sorted(picked, key=lambda clip: (clip.row["source"], clip.row["span"][0]))


def _read(
    dataset: Dataset, shard: str, numbers: Sequence[int], generation: str, motion: FeatureSet | None
) -> Iterator[Picked]:
    with dataset.aligned(shard, motion) if motion else dataset.aligned(shard) as tables:
        light = tables[0].drop(["video", "audio"])
        for number in numbers:
            values = feature_values(tables[1]["motion"], number, motion.dim) if motion else None
            yield Picked(
                light.slice(number, 1).to_pylist()[0],
                tables[0]["video"][number].as_py(),
                None if values is None else values.copy(),
            )


def contact_sheet(clips: Sequence[Picked], side: int = 128) -> Pixels:
    """A row for each clip: its pictures, evenly spaced, and its motion [rows, width, 3]."""
    rows, reach = [], _reach(clips)
    for clip in clips:
        count = clip.row["num_frames"]
        frames = decode_clip(clip.video, [round(k * (count - 1) / (STILLS - 1)) for k in range(STILLS)])
        pictures = [cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in frames]
        drawn = _plot(clip, 3 * side, side, reach)
        strip = np.concatenate([*pictures, drawn], 1)
        rows += [_caption(clip, strip.shape[1]), strip]
    return np.concatenate(rows)


def film(clips: Sequence[Picked], side: int = 192, columns: int = 4) -> Iterator[Pixels]:
    """Frames [height, width, 3] that play all clips beside each other, a line running through each one's motion.

    A clip that ends early stands still.
    """
    half = side // 2
    columns = min(columns, len(clips))
    reach = _reach(clips)
    plots = [_plot(clip, side, half, reach) for clip in clips]
    captions = [_caption(clip, side) for clip in clips]
    videos = [
        np.stack([cv2.resize(f, (side, side), interpolation=cv2.INTER_AREA) for f in decode_clip(clip.video)])
        for clip in clips
    ]
    for number in range(max(len(video) for video in videos)):
        tiles = []
        for plot, caption, video in zip(plots, captions, videos, strict=True):
            at = min(number, len(video) - 1)
            drawn = plot.copy()
            x = round(at * (side - 1) / max(1, len(video) - 1))
            cv2.line(drawn, (x, 0), (x, half), BLACK, 1)
            tiles.append(np.concatenate([caption, video[at], drawn]))
        blank = np.full_like(tiles[0], 255)
        tiles += [blank] * (-len(tiles) % columns)
        sheet = np.concatenate(
            [np.concatenate(tiles[k : k + columns], 1) for k in range(0, len(tiles), columns)]
        )
        yield sheet[: sheet.shape[0] // 2 * 2, : sheet.shape[1] // 2 * 2]


def write_sample(path: Path, clips: Sequence[Picked], side: int | None = None) -> None:
    """A contact sheet (.jpg, .png) or a silent video (.mp4), whole or not at all.

    Raises:
        BadInput: another ending.
    """
    kind = path.suffix.lower()
    if kind == ".mp4":
        data = encode_clip(film(clips, side or 192), crf=20)
    elif kind in (".png", ".jpg", ".jpeg"):
        done, array = cv2.imencode(kind, cv2.cvtColor(contact_sheet(clips, side or 128), cv2.COLOR_RGB2BGR))
        assert done
        data = array.tobytes()
    else:
        raise BadInput(f"{path}: cannot write this kind of file", fix="name it .jpg, .png or .mp4")
    with published(path) as temporary:
        temporary.write_bytes(data)


def _reach(clips: Sequence[Picked]) -> float:
    """The largest motion value of any clip, so that all are drawn to one scale."""
    return max(
        [LEAST_REACH, *(float(np.abs(clip.motion).max()) for clip in clips if clip.motion is not None)]
    )


def _plot(clip: Picked, width: int, height: int, reach: float) -> Pixels:
    """Each dimension of the motion as a line from the first frame to the last, from -reach at the bottom to reach."""
    drawn = np.full((height, width, 3), 255, np.uint8)
    cv2.line(drawn, (0, height // 2), (width, height // 2), GREY, 1)
    if clip.motion is None:
        _write(drawn, "no motion", (6, height // 2 - 6))
        return drawn
    frames, dims = clip.motion.shape
    x = np.linspace(0, width - 1, frames)
    hues = np.stack([np.linspace(0, 165, dims), np.full(dims, 200), np.full(dims, 190)], 1)
    colours = cv2.cvtColor(hues.astype(np.uint8)[None], cv2.COLOR_HSV2RGB)[0]
    for dim in range(dims):
        y = (1 - clip.motion[:, dim] / reach) / 2 * (height - 1)
        points = np.round(np.stack([x, y], 1)).astype(np.int32)
        cv2.polylines(drawn, [points], False, colours[dim].tolist(), 1, cv2.LINE_AA)
    return drawn


def _caption(clip: Picked, width: int) -> Pixels:
    drawn = np.full((TEXT_HEIGHT, width, 3), 255, np.uint8)
    start, end = clip.row["span"]
    parts = [
        f"{Path(clip.row['source']).name} {start:.1f}-{end:.1f} s",
        clip.row["identity"] or "",
        clip.row["clip_id"],
    ]
    _write(drawn, "  ".join(part for part in parts if part), (2, TEXT_HEIGHT - 5))
    return drawn


def _write(image: Pixels, text: str, place: tuple[int, int]) -> None:
    plain = text.encode("ascii", "replace").decode()  # OpenCV's letters are ASCII
    cv2.putText(image, plain, place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, BLACK, 1, cv2.LINE_AA)
