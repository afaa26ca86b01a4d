"""A training without a network, for kills: figures of steps, checkpoints, a look now and then; resumes from storage.

python -m tests.pipelines.tracking.pretend_training RUNS URI TRAIN_ID STEPS CHECKPOINT_STEPS SECONDS_A_STEP
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

from ifmdm_core.storage import Storage, open_storage
from ifmdm_core.training.fit import StepRecord
from pipelines.tracking.settings import TrackingSettings
from pipelines.tracking.spool import Spool
from pipelines.tracking.tracked_run import TrackedInput, TrackedRun
from pipelines.tracking.tracker import Tracker, TrackingReport

LOG_STEPS = 5


def tracked(train_id: str, storage: Storage) -> TrackedRun:
    """A run of stage 2 on a dataset with two feature sets."""
    return TrackedRun(
        train_id=train_id, name=f"run-{train_id[:6]}", stage="motion", uri=str(storage.root), created=1.7e9,
        config={"fit": {"steps": 100, "seed": 0}, "optimiser": {"lr": 1e-4}, "start": None, "text": "x" * 7000},
        tags={"dataset.uri": "s3://data/set", "dataset.manifest": "3"},
        inputs=(
            TrackedInput(name="set", digest="5" * 64, source="s3://data/set", profile={"clips": 12}),
            TrackedInput(name="motion/11c0", digest="6" * 16, source="s3://data/set/motion/11c0", context="features"),
        ),
        git_commit="c" * 40, git_dirty=True, git_diff="--- a\n+++ b\n", note="a *pretended* training",
    )  # fmt: skip


def figures(step: int) -> dict[str, float]:
    return {"loss": 1 / step, "lips": math.sin(step), "grad_norm": 0.1 * step}


def train(
    storage: Storage,
    settings: TrackingSettings,
    train_id: str,
    steps: int,
    checkpoint_steps: int,
    step_s: float = 0.0,
    patience_s: float = 300.0,
    until: int | None = None,
) -> TrackingReport | None:
    """Go on from the last checkpoint to `steps`; `until` breaks off there without a word, as a kill does."""
    tracker = Tracker.start(tracked(train_id, storage), settings, Spool(storage))
    done = max((int(item.key[-8:]) for item in storage.list("checkpoints/")), default=0)
    records: list[StepRecord] = []
    for step in range(done + 1, steps + 1):
        if step_s:
            time.sleep(step_s)
        records.append(StepRecord(step, time.time(), figures(step)))
        if step == until:
            return None
        if step % LOG_STEPS == 0 or step == steps:
            tracker.record(records)
            records = []
        if step % checkpoint_steps == 0 or step == steps:
            storage.put(f"samples/step-{step:08d}/look.txt", f"sample of {step}".encode())
            tracker.validated(
                step, {"r": step / steps, "odd": math.nan}, [f"samples/step-{step:08d}/look.txt"]
            )
            tracker.flush_spool()
            storage.put(f"checkpoints/{step:08d}", b"state")
            tracker.checkpoint(step, f"{storage.root}/checkpoints/{step:08d}", "d" * 64)
    tracker.exported(steps, f"{storage.root}/result", {"motion.safetensors": "e" * 64})
    return tracker.finish("FINISHED", patience_s)


if __name__ == "__main__":
    runs, uri, train_id, steps, checkpoint_steps, step_s = sys.argv[1:]
    settings = TrackingSettings(uri=uri, flush_s=0.2)
    report = train(
        open_storage(Path(runs)), settings, train_id, int(steps), int(checkpoint_steps), float(step_s)
    )
    assert report is not None
    print(report.model_dump_json())
