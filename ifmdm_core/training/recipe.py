"""Rebuilds the bundled `demo` from raw clips: every training of this package, in order, on one clock.

    ifmdm demo train --manifest DATA/manifest.csv --landmarker face_landmarker.task --work WORK --minutes 150

Each step is a command of its own (shown before it runs), resumes where it stopped and is skipped once its result
exists. Steps that do not depend on each other may as well be run by hand side by side.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ifmdm_core.errors import IfmdmError

TRAINING = "ifmdm_core.training"


@dataclass(frozen=True)
class Step:
    """One command and the file that says it is done."""

    name: str
    module: str
    arguments: tuple[str | Path, ...]
    result: Path
    share: float = 0.0
    """Share of the training minutes; 0 = takes what it takes."""

    def command(self, minutes: float) -> list[str]:
        budget = ["--minutes", f"{self.share * minutes:.2f}"] if self.share else []
        return [sys.executable, "-m", self.module, *map(str, self.arguments), *budget]


def steps(manifest: Path, landmarker: Path, work: Path) -> list[Step]:
    """The recipe (docs/model-card.md says what each step reached)."""
    labels, data, stage1 = work / "labels", work / "set", work / "stage1"
    speech, stage2 = work / "speech", work / "stage2"
    raw = ("--manifest", manifest)
    pictures = ("--set", data, "--work", stage1)
    finished = stage1 / "finish" / "autoencoder.safetensors"
    recipe = [
        Step(
            "labels", f"{TRAINING}.labels", (*raw, "--model", landmarker, "--out", labels), work / "labelled"
        ),
        Step("crops", f"{TRAINING}.prepare", (*raw, "--labels", labels, "--out", data), data / "index.json"),
        Step("speech encoder", f"{TRAINING}.speech", (data, speech), speech / "model.safetensors", 0.18),
    ]
    for phase, share in (
        ("motion", 0.12),
        ("parts", 0.08),
        ("flow", 0.12),
        ("picture", 0.2),
        ("finish", 0.14),
    ):
        result = stage1 / phase / "autoencoder.safetensors"
        recipe.append(
            Step(f"stage 1 {phase}", f"{TRAINING}.autoencoder", (*pictures, "--phase", phase), result, share)
        )
    recipe += [
        Step(
            "motion set", f"{TRAINING}.motion_extract",
            ("--set", data, "--autoencoder", finished, "--speech", speech, "--work", stage2),
            stage2 / "data" / "clips.json",
        ),
        Step("stage 2", f"{TRAINING}.motion", ("--work", stage2), stage2 / "motion.safetensors", 0.16),
        Step(
            "bundle", f"{TRAINING}.make_bundle",
            ("--autoencoder", finished, "--motion", stage2 / "motion.safetensors", "--speech", speech,
             "--data", stage2 / "data", "--out", work / "bundle"),
            work / "bundle" / "bundle.json",
        ),
    ]  # fmt: skip
    return recipe


class StepFailed(IfmdmError):
    """A step of the recipe ended with an error of its own."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="ifmdm demo train", description=__doc__.split("\n")[0] if __doc__ else ""
    )
    parser.add_argument(
        "--manifest", type=Path, required=True, help="CSV of file, split, class, kind, speaker"
    )
    parser.add_argument(
        "--landmarker", type=Path, required=True, help="a mediapipe face_landmarker.task file"
    )
    parser.add_argument("--work", type=Path, required=True, help="labels, checkpoints and the bundle go here")
    parser.add_argument(
        "--minutes", type=float, default=150, help="training time in all, labelling and crops beside"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands and stop")
    options = parser.parse_args(arguments)
    for step in steps(options.manifest, options.landmarker, options.work):
        command = step.command(options.minutes)
        if step.result.exists():
            print(f"{step.name}: done ({step.result})")
            continue
        print(f"{step.name}: {shlex.join(command)}", flush=True)
        if options.dry_run:
            continue
        if subprocess.run(command).returncode:
            raise StepFailed(f"{step.name} failed", fix="see its message above; run again to go on from here")
        if step.name == "labels":
            step.result.touch()
    if not options.dry_run:
        print(f"bundle: {options.work / 'bundle'}; try `ifmdm demo render --model {options.work / 'bundle'}`")
