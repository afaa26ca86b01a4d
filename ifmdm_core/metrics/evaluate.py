"""Measures a talking head on clips of people and speech that no training saw: every table with its control rows.

report = evaluate(TalkingHead.load("demo"), "heldout", landmarker="face_landmarker.task")
report.print()
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.errors import BadInput, IfmdmError
from ifmdm_core.metrics.against_pictures import (
    control_table,
    reconstruction_table,
    seam_table,
    unavailable_table,
)
from ifmdm_core.metrics.against_sound import (
    bilabial_table,
    equivariance_table,
    intervention_table,
    silence_table,
)
from ifmdm_core.metrics.against_truth import Driven, drive, lip_table, sync_table
from ifmdm_core.metrics.stage import Clip, Landmarks, Stage, chosen_landmarker, find_clips, load_clip
from ifmdm_core.metrics.sync_model import ASSETS, SyncScorer
from ifmdm_core.metrics.tables import EvaluationReport, Table

if TYPE_CHECKING:
    from ifmdm_core.talking_head import TalkingHead

Array = NDArray[np.float32]
Notice = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    clips: dict[str, int]
    """Clips by kind; kinds not named get as many as `clips`."""
    clip_s: float
    """Longest part of a clip, seconds."""
    sounds: int
    seeds: int
    """Of table 2, every sound with every seed."""
    sound_s: float = 2.4
    pairs: int = 12
    """Pairs of frames per clip in table 6."""
    portraits: int = 4
    """Of the controls table."""
    seams: int = 32
    silence_s: float = 3.0


FULL = Effort({"clips": 13, "grid": 6, "news": 6}, clip_s=4.0, sounds=5, seeds=5)
QUICK = Effort({"clips": 4, "grid": 3, "news": 3}, clip_s=3.0, sounds=3, seeds=2, pairs=4, portraits=2)


def evaluate(
    head: TalkingHead,
    clips_folder: str | Path,
    landmarker: str | Path | Landmarks | None = None,
    quick: bool = False,
    notice: Notice | None = None,
    effort: Effort | None = None,
) -> EvaluationReport:
    """Run all tables of docs/measuring.md that can be run here.

    Args:
        head: a loaded bundle.
        clips_folder: videos with sound of people that no training saw; the first folder level names their kind.
        landmarker: mediapipe face landmarker file, "own" for our own face net, or a function that gives meshes;
            else the environment's IFMDM_FACE_LANDMARKER. Without one, every figure that needs landmarks reads
            "not available".
        quick: few clips and seeds; figures come with wide intervals.
        notice: told what is being done.
        effort: how much to measure, instead of what `quick` chooses.

    Raises:
        NotFound: no video, or no such landmarker file.
        BadInput: no clip with sound and a face.
    """
    say = notice or (lambda text: print(text, file=sys.stderr, flush=True))
    started = time.monotonic()
    found = find_clips(Path(clips_folder))
    effort = effort or (QUICK if quick else FULL)
    landmarks = landmarker if callable(landmarker) else chosen_landmarker(landmarker)
    stage = Stage(head, landmarks)
    report = EvaluationReport(bundle=head.name, digest=head.digest, clips={})
    if landmarks is None:
        missing = Table(title="1 to 6. Lips, sync, reconstruction", columns=["figure", "value"])
        missing.add(
            "all",
            "not available: give --landmarker or IFMDM_FACE_LANDMARKER, a face_landmarker.task",
        )
        report.tables += [missing, unavailable_table()]
        report.seconds = time.monotonic() - started
        return report
    say("reading and labelling clips")
    clips = load_clips(found, head.size, landmarks, effort)
    for clip in clips:
        report.clips[clip.kind] = report.clips.get(clip.kind, 0) + 1
    measuring = Measuring(stage, clips, effort, say)
    for name in MEASURED:
        say(f"{name} ({time.monotonic() - started:.0f} s)")
        report.tables += measuring.tables(name)
    report.tables.append(unavailable_table())
    report.seconds = time.monotonic() - started
    return report


MEASURED = (
    "lips and sync", "intervention", "equivariance", "bilabials", "silence", "reconstruction", "seams", "controls",
)  # fmt: skip
"""The steps of an evaluation; each gives one table, or two, and none needs another's result."""


@dataclass
class Measuring:
    """The tables of one bundle on loaded clips, a step at a time."""

    stage: Stage
    clips: list[Clip]
    effort: Effort
    say: Notice = lambda text: None

    def tables(self, step: str) -> list[Table]:
        """What a step of `MEASURED` gives.

        Raises BadInput where the clips do not suffice for it.
        """
        stage, clips, effort = self.stage, self.clips, self.effort
        if step == "lips and sync":
            driven = _drive(stage, clips, self.say)
            return [_scored(driven), lip_table(driven)]
        portrait = max(clips, key=lambda clip: clip.crops.shape[1] * len(clip.crops))
        picture = portrait.crops[portrait.source]
        people = [clip for clip in clips if clip.kind != "grid"]
        steps: dict[str, Callable[[], Table]] = {
            "intervention": lambda: intervention_table(stage, picture, self._sounds(), effort.seeds),
            "equivariance": lambda: equivariance_table(stage, picture, self._sounds()[:3]),
            "bilabials": lambda: bilabial_table(stage, picture),
            "silence": lambda: silence_table(stage, picture, clips, effort.silence_s),
            "reconstruction": lambda: reconstruction_table(stage, people or clips, effort.pairs),
            "seams": lambda: seam_table(stage, picture, np.concatenate(self._sounds()), effort.seams),
            "controls": lambda: control_table(stage, _pictures(clips, effort.portraits), self._sounds()),
        }
        return [steps[step]()]

    def _sounds(self) -> list[Array]:
        return _sounds(self.clips, self.effort.sounds, self.effort.sound_s)


def load_clips(found: list[tuple[Path, str]], size: int, landmarks: Landmarks, effort: Effort) -> list[Clip]:
    """Clips (file, kind) as truth, at most as many of a kind as the effort says; others than usable are passed over.

    Raises BadInput when none is usable.
    """
    clips: list[Clip] = []
    for kind in sorted({kind for _, kind in found}):
        paths = [path for path, its in found if its == kind]
        limit = effort.clips.get(kind, effort.clips["clips"])
        step = max(1, len(paths) // limit)  # spread over the folder, so that not one person fills the list
        taken = 0
        for path in paths[::step]:
            if taken == limit:
                break
            try:
                clip = load_clip(path, kind, size, landmarks, effort.clip_s)
            except IfmdmError:
                continue  # a damaged file is no verdict on the model
            clips.append(clip)
            taken += 1
    if not clips:
        raise BadInput("no clip with sound and a face in nine of ten frames", fix="give other clips")
    return clips


def _drive(stage: Stage, clips: list[Clip], say: Notice) -> list[Driven]:
    driven: list[Driven] = []
    for number, clip in enumerate(clips):
        say(f"rendering {clip.name} ({number + 1} of {len(clips)})")
        kin = [other for other in clips if other.kind == clip.kind and other is not clip]
        other = stage.true_motion(kin[number % len(kin)].crops) if kin else None
        if (item := drive(stage, clip, other)) is not None:
            driven.append(item)
    return driven


def _scored(driven: list[Driven]) -> Table:
    if not (ASSETS / "r.safetensors").is_file():
        table = Table(title="1a. Sync, scorer R", columns=["figure", "value"])
        table.add("S", "not available: train the scorer, python -m ifmdm_core.training.sync")
        return table
    record = ASSETS / "r.txt"
    accuracy = record.read_text().strip() if record.is_file() else "gates not recorded"
    return sync_table(SyncScorer.load("R"), driven, accuracy)


def _sounds(clips: list[Clip], count: int, seconds: float) -> list[Array]:
    """The loudest stretches of `seconds` of different clips, longest clips first."""
    length = round(seconds * 16000)
    long = sorted((clip for clip in clips if len(clip.samples) >= length), key=lambda c: c.kind == "grid")
    sounds = []
    for clip in long[:count]:
        starts = range(0, len(clip.samples) - length + 1, 1600)
        best = max(starts, key=lambda s: float((clip.samples[s : s + length] ** 2).sum()))
        sounds.append(clip.samples[best : best + length].astype(np.float32))
    if len(sounds) < 2:
        raise BadInput(f"{len(sounds)} clips of {seconds} s or more", fix="give at least two longer clips")
    return sounds


def _pictures(clips: list[Clip], count: int) -> list[NDArray[np.uint8]]:
    step = max(1, len(clips) // count)
    return [clip.crops[clip.source] for clip in clips[::step][:count]]
