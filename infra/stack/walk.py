"""`ifmdm demo --data`: from talking videos to a served model, each step the very command that a user would type.

What is done is skipped when it is run again, so it goes on where it stopped. The model is a toy: drawn heads, a few
dozen steps of training.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from ifmdm_core.errors import IfmdmError
from ifmdm_core.provenance import sha256_of_file
from ifmdm_core.samples import SAMPLES
from infra.stack.place import Place

MODEL = "demo-walk"
"""Its name in the registry."""
VERSION = "VERSION"
"""In a command: the number that the registry gave the bundle."""
PEOPLE, SECONDS = 6, 2.4
STEPS, BATCH = 30, 16
TRAINING = {
    "model": {"preset": "demo"},
    "reference": "demo",
    "optimiser": {"lr": 0.001, "warmup": 5},
    "fit": {"steps": STEPS, "checkpoint_steps": STEPS, "validate_steps": STEPS, "log_steps": 5},
}
GATES = {"gates": {"lip_r": {"no_worse": True, "least": -0.5}, "psnr": {"no_worse": True, "least": 12}}}
"""As configs/gates.yaml, of what a short evaluation measures. `least` holds for the first champion too."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """One command of the walk."""

    name: str
    about: str
    command: tuple[str, ...]
    always: bool = False
    """Also where it was done before: it acts on what runs now, and is quick."""


def steps(place: Place, folder: Path) -> list[Step]:
    """The walk, all of it in `folder` (as it is to be shown in commands)."""
    ray = ("--ray", place.state.services["ray"].address)
    one = ("--workers", "1")  # there is one shard
    server = ("--server", place.url("gateway"))
    videos, dataset, runs, bundle, report = (
        str(folder / name) for name in ("videos", "set", "runs", "bundle", "report")
    )
    return [
        Step(
            "videos",
            f"{PEOPLE} drawn people talk for {SECONDS} s each; every third is held out from training",
            ("python", "-m", "pipelines.synthetic", videos, "--people", str(PEOPLE), "--seconds", str(SECONDS)),
        ),
        Step(
            "clips",
            "face clips cut out of the videos, on the stack's Ray",
            ("ifmdm", "data", "clips", f"{videos}.csv", dataset, "--quiet", *one, *ray),
        ),
        Step(
            "features",
            "speech features and motion vectors of every clip",
            ("ifmdm", "data", "features", dataset, "--speech", "demo", "--motion", "demo", "--quiet", *one, *ray),
        ),
        Step("selection", "what is good enough, and who is held out", ("ifmdm", "data", "select", dataset, "good")),
        Step(
            "training",
            f"stage 2, {STEPS} steps; its curves are in MLflow",
            (
                "ifmdm", "train", "motion", str(folder / "motion.yaml"), "--set", f"data.dataset={dataset}",
                "--set", "data.selection=good", "--set", f"runs={runs}", "--name", "motion", "--local",
            ),
        ),
        Step(
            "bundle",
            "the trained motion generator with the bundled autoencoder: a model",
            (
                "ifmdm", "model", "bundle", bundle, "--name", MODEL, "--autoencoder", "demo",
                "--motion", f"{runs}/motion", "--speech", "demo",
            ),
        ),
        Step(
            "evaluation",
            "judged on a person that it never saw",
            (
                "ifmdm", "evaluate", bundle, dataset, "--selection", "good", "--landmarker", "own", "--quick",
                "--table", "1", "--no-measuring", "--clips", "1", "--local", "--out", report,
            ),
        ),
        Step(
            "register",
            "a version in MLflow's registry",
            ("ifmdm", "model", "register", MODEL, bundle, "--evaluation", f"{report}/report.json"),
        ),
        Step(
            "promote",
            "the champion, if no gate is against it",
            ("ifmdm", "model", "promote", f"models:/{MODEL}/{VERSION}", "--gates", str(folder / "gates.yaml")),
        ),
        Step(
            "switch",
            "the running service changes over, without a break",
            ("ifmdm", "serve", "switch", f"models:/{MODEL}@champion", *server),
            always=True,
        ),
        Step(
            "render",
            "and renders with it",
            (
                "ifmdm", "render", str(SAMPLES / "astronaut.jpg"), str(SAMPLES / "speech.flac"),
                "-o", str(folder / "out.mp4"), *server,
            ),
            always=True,
        ),
    ]  # fmt: skip


def walk(place: Place, folder: Path, say: Say) -> None:
    """Does what is not done yet. Raises IfmdmError, with the command, where one fails."""
    done = folder / "done"
    done.mkdir(parents=True, exist_ok=True)
    training = {
        "data": {"dataset": str(folder / "set"), "batch": BATCH, "threads": 1, "buffer": 40},
        **TRAINING,
    }
    (folder / "motion.yaml").write_text(yaml.safe_dump(training, sort_keys=False))
    (folder / "gates.yaml").write_text(yaml.safe_dump(GATES))
    todo = steps(place, folder)
    for number, step in enumerate(todo, 1):
        mark = done / step.name
        over = mark.exists() and not step.always
        say(f"\n{number}/{len(todo)}  {step.about}{' (done before)' if over else ''}")
        command = _numbered(place, folder / "bundle", step.command)
        say(f"$ {shlex.join(command)}")
        if not over:
            _run(place, command)
            mark.touch()


def _numbered(place: Place, bundle: Path, command: Sequence[str]) -> list[str]:
    if not any(word.endswith(f"/{VERSION}") for word in command):
        return list(command)
    from pipelines.registry import api

    digest = sha256_of_file(bundle / "bundle.json")
    (number,) = (
        found.version for found in api.versions(MODEL, mlflow=place.url("mlflow")) if found.sha256 == digest
    )
    return [word.replace(f"/{VERSION}", f"/{number}") for word in command]


def _run(place: Place, command: Sequence[str]) -> None:
    ours = {"ifmdm": [sys.executable, "-m", "infra.cli"], "python": [sys.executable]}
    code = subprocess.run(
        [*ours[command[0]], *command[1:]], env={**os.environ, **place.variables()}, check=False
    ).returncode
    if code:
        raise IfmdmError(
            f"exit code {code} of: {shlex.join(command)}",
            fix="ifmdm demo --data goes on there once that is mended",
        )
