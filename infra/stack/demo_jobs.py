"""The demo's render jobs: the bundled portrait speaks twice, through the bucket as anybody's jobs do."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import Expired, IfmdmError
from ifmdm_core.samples import SAMPLES
from infra.stack.place import Place
from infra.stack.telling import telling
from jobs.client import JobClient

JOBS = {
    "calm": RenderControls(pose="hold", intensity=0.3, seed=1),
    "lively": RenderControls(pose="evolve", intensity=0.6, seed=2),
}
"""Name -> how the portrait speaks."""
LOOK_S = 0.3
LONGEST_S = 1800.0
"""For both jobs, on a machine that does other things too."""


@dataclass(frozen=True)
class Rendered:
    """A job of the demo that is done."""

    id: str
    output: str
    created: bool
    """By this run of the demo; else it was done before."""


def render_samples(place: Place) -> list[Rendered]:
    """Submits the jobs, unless that was done before, and waits until their videos are published.

    Raises IfmdmError where a job ends otherwise; Expired after half an hour.
    """
    client = JobClient(place.jobs, s3=place.s3)
    inputs = _inputs(place)
    until = time.monotonic() + LONGEST_S
    with telling(list(JOBS)) as teller:
        submitted = {}
        for name, controls in JOBS.items():
            submitted[name] = client.submit(
                portrait=str(inputs / "astronaut.jpg"), audio=str(inputs / "speech.flac"),
                output=f"{place.bucket}/out/{name}.mp4", controls=controls.model_dump(exclude_unset=True),
                labels={"from": "demo"},
            )  # fmt: skip
            teller.begin(name, f"job {submitted[name].ref.id}")
        waiting = dict(submitted)
        while waiting:
            for name, job in list(waiting.items()):
                state = client.get(job.ref.id).state
                teller.note(name, state.state)
                if state.terminal:
                    del waiting[name]
                    if state.state != "published":
                        why = f": {state.fault.what}" if state.fault is not None else ""
                        raise IfmdmError(
                            f"the demo's job {job.ref.id} is {state.state}{why}",
                            fix=f"ifmdm jobs show {job.ref.id}",
                        )
                    teller.done(name, job.output if job.created else f"{job.output}, since before")
            if waiting and time.monotonic() > until:
                raise Expired(
                    f"the demo's jobs took longer than {LONGEST_S / 60:.0f} min",
                    fix="see ifmdm status and ifmdm jobs ls",
                )
            if waiting:
                time.sleep(LOOK_S)
    return [Rendered(job.ref.id, job.output, job.created) for job in submitted.values()]


def _inputs(place: Place) -> Path:
    """Where the samples lie for the jobs: in the bucket; a client uploads them itself where that is S3."""
    if place.s3 is not None:
        return SAMPLES
    folder = place.home.bucket / "in"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("astronaut.jpg", "speech.flac"):
        if not (folder / name).exists():
            shutil.copy2(SAMPLES / name, folder / name)
    return folder
