"""A source's content digest, and how long it lasts or why it cannot be used."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.errors import BadInput
from ifmdm_core.provenance import sha256_of_file
from ifmdm_core.storage import S3Config
from pipelines.clips.sources import SourceItem, open_source


class Probed(BaseModel):
    """What looking at one source found; either `duration` or `fault_reason` is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(description="of the content, 64 hexadecimal digits")
    size: int = Field(description="bytes read")
    stamp: str = Field(description="as it was listed; a write since then makes the next listing differ")
    duration: float | None = Field(None, description="seconds from the first frame to the end of the last")
    fault_reason: str | None = Field(None, description="short and stable: see `content_fault`")
    fault_detail: str | None = Field(None, description="one line for people")


def probe_source(item: SourceItem, s3: S3Config | None = None, folder: Path | None = None) -> Probed:
    """Hash a source and look at its header and first frame, from one read or download.

    Args:
        folder: where a source from a bucket is downloaded to; the machine's temporary folder by default.

    Raises:
        NotFound, Forbidden, Unavailable, DiskFull: it cannot be read, which says nothing about its content.
    """
    from ifmdm_core.media.video import probe_video

    with (
        tempfile.TemporaryDirectory(prefix="ifmdm-probe-", dir=folder) as own,
        open_source(item, s3, Path(own)) as path,
    ):
        sha256, size = sha256_of_file(path), path.stat().st_size
        common = {"sha256": sha256, "size": size, "stamp": item.stamp}
        if size == 0:
            return Probed(**common, fault_reason="empty", fault_detail="the file has 0 bytes")
        try:
            duration = probe_video(path, item.source).duration
            return Probed(**common, duration=duration or measured_seconds(path, item.source))
        except BadInput as error:
            return Probed(**common, fault_reason=content_fault(error), fault_detail=error.what)


def content_fault(error: BadInput) -> str:
    """The reason to group a refused video by: too large, no picture, unknown format, unreadable or damaged."""
    if error.http_status == 413:
        return "too large"
    phrases = {
        "has no picture": "no picture",
        "format that is not known": "unknown format",
        "is not video": "unreadable",
    }
    return next((reason for phrase, reason in phrases.items() if phrase in error.what), "damaged")


def measured_seconds(path: Path, name: str) -> float:
    """How long the picture of a video lasts, by its packets: for containers whose header does not say.

    Raises BadInput naming the file when it ends in the middle or is longer than any video may be.
    """
    import av

    from ifmdm_core.media.container import MAX_SECONDS, opened, reason

    first, last = None, 0.0
    with opened(path, "video", name) as (container, name):
        stream = container.streams.video[0]
        usual = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        try:
            for packet in container.demux(stream):
                if packet.pts is None or packet.size == 0:
                    continue
                start = float(packet.pts * packet.time_base)
                first = start if first is None else min(first, start)
                last = max(
                    last, start + (float(packet.duration * packet.time_base) if packet.duration else usual)
                )
        except (av.FFmpegError, ValueError) as error:
            raise BadInput(f"{name}: damaged or truncated video ({reason(error)})") from error
    if first is None:
        raise BadInput(f"{name}: damaged or truncated video (its frames have no times)")
    if last - first > MAX_SECONDS:
        raise BadInput(
            f"{name}: {(last - first) / 3600:.1f} hours are too long", fix="cut it into parts", too_large=True
        )
    return last - first
