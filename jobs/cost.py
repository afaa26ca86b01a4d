"""What jobs cost: working seconds of the model's stages, added up by tenant, label, job or state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ifmdm_core.errors import BadInput
from jobs.listing import Job

BY = ("tenant", "job", "state", "model", "label:NAME")


@dataclass
class Cost:
    """Of some jobs together."""

    jobs: int = 0
    frames: int = 0
    """Of videos that were made."""
    video_s: float = 0.0
    """Seconds of these."""
    busy_s: Counter[str] = field(default_factory=Counter)
    """Working seconds by stage, of all attempts whose end is known."""

    def add(self, job: Job) -> None:
        """One more."""
        state = job.view.state
        self.jobs += 1
        self.busy_s.update(state.busy_s)
        if state.video is not None:
            self.frames += state.video.frames
            self.video_s += state.video.frames / state.video.fps

    def as_dict(self, gpu_hour: float | None = None) -> dict[str, Any]:
        """Plain data.

        Args:
            gpu_hour: price of an hour that a stage works; adds `price`, and `price_per_video_s` where there is any.
        """
        total = sum(self.busy_s.values())
        found: dict[str, Any] = {
            "jobs": self.jobs,
            "frames": self.frames,
            "video_s": round(self.video_s, 3),
            "busy_s": {name: round(value, 3) for name, value in sorted(self.busy_s.items())},
            "busy_total_s": round(total, 3),
        }
        if gpu_hour is not None:
            found["price"] = round(total / 3600 * gpu_hour, 6)
            if self.video_s:
                found["price_per_video_s"] = round(found["price"] / self.video_s, 6)
        return found


def cost(jobs: Iterable[Job], by: str = "tenant") -> dict[str, Cost]:
    """Cost by group, the dearest first.

    Args:
        by: tenant, job, state, model, or label:NAME (jobs without that label count as "").

    Raises BadInput for another grouping.
    """
    kind, _, name = by.partition(":")
    if by not in BY[:-1] and not (kind == "label" and name):
        raise BadInput(f"by is {by!r}", fix=f"one of {', '.join(BY)}")
    found: dict[str, Cost] = {}
    for job in jobs:
        groups = {
            "tenant": job.ref.tenant,
            "job": job.ref.id,
            "state": job.view.state.state,
            "model": job.record.job.model,
            "label": job.record.job.labels.get(name, ""),
        }
        found.setdefault(groups[kind], Cost()).add(job)
    return dict(sorted(found.items(), key=lambda group: -sum(group[1].busy_s.values())))
