"""How a run uses the machine or cluster; nothing in here changes a byte of what it makes."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class RunSettings(BaseModel):
    """Workers and limits of one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str | None = Field(None, description="Ray cluster, host:port or 'auto'; None starts one here")
    workers: int | None = Field(None, ge=1, description="actors; None fills the cluster's CPUs or GPUs")
    cpus: float = Field(1.0, gt=0, description="CPUs of one worker; a GPU worker decodes on so many threads")
    gpus: float = Field(0.0, ge=0, description="GPUs of one worker; a fraction shares one")
    batch: int = Field(16, ge=1, description="frames in one call of the motion encoder; the last is padded")
    deadline_factor: float = Field(
        30.0, gt=0, description="seconds a shard may take for each second of video"
    )
    max_bad_fraction: float = Field(
        0.5, ge=0, le=1, description="stop when more than this part of the sources is refused (from 20 on)"
    )
    limit: int | None = Field(None, ge=1, description="only the first N sources, or shards for features")
    scratch: Path | None = Field(None, description="folder for temporary files; the system's when None")

    def deadline(self, seconds: float) -> float:
        """Seconds until a shard with so many seconds of video counts as hanging."""
        return 300.0 + self.deadline_factor * seconds

    def size(self, cpus: float, gpus: float) -> int:
        """Workers for a cluster with so many CPUs and GPUs."""
        if self.workers:
            return self.workers
        return max(1, int(gpus / self.gpus if self.gpus else cpus / self.cpus))
