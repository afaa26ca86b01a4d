"""Who examines: one process with the bundle and the judges loaded once, scoring clip after clip."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.errors import BadInput, Conflict, IfmdmError
from ifmdm_core.media.audio import audio_from_samples
from ifmdm_core.media.face import crop
from ifmdm_core.media.video_writer import VideoWriter
from ifmdm_core.metrics.evaluate import Effort, Measuring, load_clips
from ifmdm_core.metrics.stage import FPS, Lips, Stage
from ifmdm_core.metrics.tables import Table
from ifmdm_core.metrics.video_score import Judges
from ifmdm_core.provenance import synthetic_tags
from ifmdm_core.storage import S3Config
from ifmdm_core.talking_head import TalkingHead
from pipelines.evaluate.held_out import HeldClip, fetch
from pipelines.evaluate.rows import Row
from pipelines.evaluate.scene import Scene, sound_of
from pipelines.tracking.resolve import open_model

EXPORT_SIDE = 512
"""Pixels of an exported portrait."""


class Setup(BaseModel):
    """What every examiner of one evaluation has in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str = Field(description="'demo', a folder, or s3://bucket/prefix")
    digest: str = Field(description="of the bundle, which must be the same everywhere")
    uri: str = Field(description="dataset or folder")
    s3: S3Config | None = None
    landmarker: str | None = Field(None, description="file, 'own', or None for the environment's")
    weights: dict[str, str] = Field(default_factory=dict, description="ONNX files of others' judges, by name")
    size: int = Field(256, ge=64, le=1024, description="side in pixels of the pictures that are judged")
    seconds: float = Field(4.0, ge=1.0, description="longest part of a clip")
    device: str | None = None
    precision: str = Field("auto", description="of the picture networks: auto, fp32 or bf16")


class ClipJob(BaseModel):
    """Rows to be scored on one clip."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip: HeldClip
    strangers: tuple[HeldClip, ...] = Field((), description="whose sound is the wrong one: the first usable")
    rows: tuple[Row, ...]
    videos: frozenset[str] = Field(frozenset(), description="rows of which the video is wanted")
    export: bool = Field(False, description="portrait, sound and real video are wanted as files")


class RowResult(BaseModel):
    """Figures of one row on one clip."""

    model_config = ConfigDict(extra="forbid")

    figures: dict[str, float] = Field(default_factory=dict)
    note: str = ""
    error: str = Field("", description="why there are no figures")


class ClipResult(BaseModel):
    """What a `ClipJob` gives."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    rows: dict[str, RowResult]
    features: dict[str, NDArray[np.float32]] = Field(default_factory=dict)
    videos: dict[str, bytes] = Field(default_factory=dict)
    files: dict[str, bytes] = Field(default_factory=dict, description="exported, by file ending")


class Examiner:
    """Scores clips and measures tables; `load` first."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._scratch = tempfile.TemporaryDirectory(prefix="ifmdm-evaluate-")

    def load(self) -> None:
        """Open the bundle and the judges.

        Raises:
            Conflict: the bundle here is another one. Others as `TalkingHead.load` and `Judges.load`.
        """
        setup = self.setup
        dtype = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16}[setup.precision]
        folder = open_model(setup.bundle, None, setup.s3).folder
        head = TalkingHead.load(folder, device=setup.device, dtype=dtype)
        if head.digest != setup.digest:
            raise Conflict(
                f"the bundle {setup.bundle!r} here has digest {head.digest}, the evaluation is of {setup.digest}",
                fix="put the same bundle on every node",
            )
        self.judges = Judges.load(setup.landmarker, setup.weights)
        self.stage = Stage(head, self.judges.landmarks)

    def score(self, job: ClipJob) -> ClipResult:
        """All rows of a job.

        Raises:
            BadInput: the clip itself is of no use. Faults of single rows are in their results.
        """
        setup, judges = self.setup, self.judges
        folder = Path(self._scratch.name)
        path = fetch(job.clip, setup.uri, setup.s3, folder)
        scene = Scene.open(
            path, job.clip.kind, setup.size, self.stage.head.size, setup.seconds, judges.landmarks
        )
        stranger = self._wrong_sound(job)
        result = ClipResult(rows={})
        portrait = scene.clip.crops[scene.clip.source]
        for row in job.rows:
            try:
                shown = scene.show(row, job.clip.name, self.stage, judges.landmarks, stranger)
            except BadInput as error:
                result.rows[row.name] = RowResult(error=str(error))
                continue
            score = judges.score(scene.clip, scene.meshes, shown.frames, portrait)
            figures = dict(score.figures)
            if shown.seconds is not None:
                figures["fps"] = len(shown.frames) / max(shown.seconds, 1e-9)
            if row.kind == "truth" and stranger is not None and (lips := Lips.of(scene.meshes)) is not None:
                found = judges.confidence(lips, stranger)
                if found is not None:
                    figures["chance"] = found[0]
            result.rows[row.name] = RowResult(figures=figures, note=shown.note)
            if score.features is not None:
                result.features[row.name] = score.features
            if row.name in job.videos:
                result.videos[row.name] = self._film(scene, row, shown.frames)
        if job.export:
            result.files = _exported(scene)
        return result

    def measure(self, step: str, clips: list[HeldClip], effort: Effort) -> list[Table]:
        """One step of `metrics.evaluate.MEASURED`, on these clips."""
        key = (tuple(clip.name for clip in clips), effort.clip_s)
        if self._measured is None or self._measured[0] != key:
            folder = Path(self._scratch.name)
            found = [(fetch(clip, self.setup.uri, self.setup.s3, folder), clip.kind) for clip in clips]
            loaded = load_clips(found, self.stage.head.size, self.judges.landmarks, effort)
            self._measured = key, Measuring(self.stage, loaded, effort)
        return self._measured[1].tables(step)

    _measured: tuple[Any, Measuring] | None = None

    def _wrong_sound(self, job: ClipJob) -> NDArray[np.float32] | None:
        """16 kHz sound of the first stranger that has any."""
        folder = Path(self._scratch.name)
        for clip in job.strangers:
            try:
                return sound_of(fetch(clip, self.setup.uri, self.setup.s3, folder), self.setup.seconds)
            except BadInput:
                continue  # that clip is left out itself, and says why
        return None

    def _film(self, scene: Scene, row: Row, frames: NDArray[np.uint8]) -> bytes:
        """An MP4 with the clip's sound; what our model made says so in its metadata."""
        tags = {}
        if row.kind in ("ours", "shuffled", "decoder"):
            head = self.stage.head
            tags = synthetic_tags(
                model=head.name, model_sha256=head.digest, controls=row.controls.model_dump(mode="json")
            )
        path = Path(self._scratch.name) / "film.mp4"
        sound = audio_from_samples(scene.clip.samples[: 640 * len(frames)], 16_000)
        size = (frames.shape[2], frames.shape[1])
        with VideoWriter(path, size, FPS, sound, crf=23, metadata=tags) as writer:
            writer.write(frames)
        return path.read_bytes()


def _exported(scene: Scene) -> dict[str, bytes]:
    """What another system needs to take part: the portrait, the sound; and the real video as it is."""
    import io
    import itertools
    import wave

    from ifmdm_core.media.clip_codec import to_int16
    from ifmdm_core.media.video import read_frames

    frames = read_frames(str(scene.path), FPS, 0.0, scene.seconds)
    whole = next(itertools.islice(frames, scene.clip.source, None))
    picture = crop(whole, scene.clip.square, EXPORT_SIDE)
    done, png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise IfmdmError("OpenCV could not write a PNG")
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(to_int16(scene.clip.samples).tobytes())
    return {".png": png.tobytes(), ".wav": sound.getvalue(), scene.path.suffix: scene.path.read_bytes()}
