"""A run as tracking knows it."""

from __future__ import annotations

import calendar
import time

from pipelines.tracking.tracked_run import TrackedInput, TrackedRun
from pipelines.training.run import RunFolder, RunRecord


def tracked_run(run: RunFolder, record: RunRecord | None = None, diff: str = "") -> TrackedRun:
    """Who this is, for MLflow; `diff` is known to the driver that creates the run."""
    record = record or run.record()
    data = record.data
    tags = {
        "dataset": data.dataset, "manifest": str(data.manifest), "dataset_content": data.content,
        "generation": data.generation, "speech_features": data.speech, "motion_features": data.motion,
        "motion_encoder": data.motion_encoder, "speech_encoder": data.speech_encoder,
        "selection": data.selection_key,
    }  # fmt: skip
    inputs = [
        TrackedInput(
            name=data.dataset.rstrip("/").rpartition("/")[2], digest=data.content, source=data.dataset,
            profile={"clips": data.clips, "frames": data.frames, "manifest": data.manifest, "split": data.split},
        )
    ]  # fmt: skip
    for kind, digest in (("speech", data.speech), ("motion", data.motion)):
        if digest is not None:
            inputs.append(
                TrackedInput(
                    name=f"{kind}/{digest}", digest=digest, source=f"{data.dataset}/{kind}/{digest}",
                    context="features",
                )
            )  # fmt: skip
    for name, digest in record.parents.items():
        inputs.append(TrackedInput(name=name, digest=digest, source=name, context="start"))
    return TrackedRun(
        train_id=record.train_id,
        name=record.name,
        stage=record.stage,
        uri=run.uri,
        created=float(calendar.timegm(time.strptime(record.created, "%Y-%m-%dT%H:%M:%SZ"))),
        config=record.config,
        tags={
            **{name: value for name, value in tags.items() if value},
            **{f"start_{name}": digest for name, digest in record.parents.items()},
        },
        inputs=tuple(inputs),
        git_commit=record.git.commit or "",
        git_dirty=record.git.dirty,
        git_diff=diff,
    )
