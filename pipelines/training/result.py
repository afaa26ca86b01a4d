"""What a finished training leaves: averaged weights for a bundle, and a record of what they are.

result/motion.safetensors (or autoencoder.safetensors, or speech/...)
       result.json            last: without it there is no result
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.provenance import sha256_of_file
from ifmdm_core.training.fit import averaged_weights
from pipelines.dataset.manifest import utc_now
from pipelines.training.run import DataRecord, RunFolder, RunRecord

if TYPE_CHECKING:
    from ifmdm_core.training.task import TrainingTask
    from pipelines.training.keeper import RunKeeper
    from pipelines.training.stage import Stage

RESULT = "result/result.json"


class ResultRecord(BaseModel):
    """result/result.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="of the run")
    train_id: str
    stage: str
    step: int
    created: str = Field(description="UTC")
    sha256: dict[str, str] = Field(description="of the exported files, by path in result/")
    checkpoint: str = Field(description="digest of the checkpoint that was exported")
    metrics: dict[str, float] = Field(default_factory=dict, description="last figures on held-out data")
    data: DataRecord
    lineage: dict[str, str] = Field(description="as in the weights")


def write_result(
    run: RunFolder, record: RunRecord, stage: Stage, task: TrainingTask, keeper: RunKeeper
) -> ResultRecord:
    """Export the averaged weights of the newest checkpoint: after a crash the same bytes again."""
    checkpoint = keeper.saved
    assert checkpoint is not None
    existing = read_result(run)
    if existing is not None:
        return existing
    averaged_weights(task, keeper.checkpoints.load(checkpoint))
    step = checkpoint.record.step
    # Nothing in it says when or where: equal trainings leave equal files.
    lineage = {
        **stage.lineage(record.data), **{f"start_{name}": digest for name, digest in record.parents.items()},
        f"{record.stage}_steps": str(step),
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="ifmdm-result-") as scratch:
        target = Path(scratch) / stage.result
        task.export(target, lineage)
        files = sorted(path for path in Path(scratch).rglob("*") if path.is_file())
        sha256 = {path.relative_to(scratch).as_posix(): sha256_of_file(path) for path in files}
        for path in files:
            run.storage.upload(f"result/{path.relative_to(scratch).as_posix()}", path)
    result = ResultRecord(
        name=record.name, train_id=record.train_id, stage=record.stage, step=step, created=utc_now(),
        sha256=sha256, checkpoint=checkpoint.digest, metrics=checkpoint.record.metrics, data=record.data,
        lineage=lineage,
    )  # fmt: skip
    run.storage.put(RESULT, result.model_dump_json(indent=1).encode())
    if keeper.tracker is not None:
        keeper.tracker.exported(step, f"{run.uri}/result", sha256)
    return result


def read_result(run: RunFolder) -> ResultRecord | None:
    """The result of a run; None when it has not got there.

    Raises:
        BadInput: its record is not readable.
    """
    try:
        data = run.storage.get(RESULT)
    except NotFound:
        return None
    try:
        return ResultRecord.model_validate_json(data)
    except ValueError as error:
        raise BadInput(f"{run.uri}/{RESULT}: {str(error).splitlines()[0]}") from None
