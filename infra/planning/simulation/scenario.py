"""What is simulated: load, machines, what they cost and how often they are taken away. Typed, unknown keys refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ifmdm_core.config import read_mapping, set_value, validate
from infra.planning.workload import TenantHabits
from serve.config import Scaling


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StagePlan(_Settings):
    """One stage and the nodes it runs on."""

    scaling: Scaling = Field(description="as in the service's configuration, and obeyed by the same code")
    per_node: int = Field(1, ge=1, description="replicas that a node has room for")
    speed: float = Field(1.0, gt=0, description="of a replica, in those that the rates were measured on")
    node_hour: float = Field(0.10, ge=0, description="$ for an hour of a node")


class Spot(_Settings):
    """Nodes that are taken away."""

    mean_life_h: float | None = Field(
        6.0, gt=0, description="hours that a node is kept, on average; None: for ever"
    )
    with_grace: float = Field(0.7, ge=0, le=1, description="part of the losses that are announced")
    grace_s: float = Field(120.0, ge=0, description="seconds between that and the loss")


class WorkerPlan(_Settings):
    """Job workers, each on a node of its own."""

    count: int = Field(40, ge=1, description="workers")
    slots: int = Field(8, ge=1, description="jobs that each has under way at a time")
    node_hour: float = Field(0.05, ge=0, description="$ for an hour of its node")


class Scenario(_Settings):
    """A day, or a part of it. The defaults: a million renders of ten seconds on nodes of two CPU cores."""

    seed: int = Field(7, ge=0, description="the same seed gives the same figures")
    hours: float = Field(24.0, gt=0, le=240, description="simulated, from midnight on")
    renders_per_day: float = Field(1_000_000, gt=0, description="jobs in 24 hours")
    cut: float = Field(
        1.0,
        gt=0,
        le=1,
        description="part of the jobs, and of the most replicas and workers, that is simulated",
    )
    speech_s: float = Field(10.0, gt=0, description="mean seconds of speech")
    speech_spread: float = Field(0.5, ge=0, le=2, description="standard deviation of the logarithm of that")
    steps: int = Field(8, ge=1, description="denoising steps")
    size: int | None = Field(None, ge=1, description="side of the output in pixels; None is the model's own")
    tenants: tuple[TenantHabits, ...] = Field(
        (
            TenantHabits(name="app", share=0.55, weight=2, swing=0.6, peak_hour=19),
            TenantHabits(name="studio", share=0.24, weight=1, swing=1.0, peak_hour=14),
            TenantHabits(name="campaigns", share=0.20, weight=1, bursts=8, burst_s=600),
            TenantHabits(name="small", share=0.01, weight=1),
        ),
        min_length=1,
        description="who submits, and when",
    )
    workers: WorkerPlan = Field(default_factory=lambda: WorkerPlan(), description="job workers")
    speech: StagePlan = Field(
        StagePlan(scaling=Scaling(least=2, most=8, target=3, downscale_delay_s=300, backlog=400)),
        description="the speech encoder",
    )
    motion: StagePlan = Field(
        StagePlan(scaling=Scaling(least=4, most=32, target=3, downscale_delay_s=300, backlog=200)),
        description="the motion sampler",
    )
    decoder: StagePlan = Field(
        StagePlan(scaling=Scaling(least=20, most=200, target=3, downscale_delay_s=300, backlog=40)),
        description="the frame decoder",
    )
    spot: Spot = Field(default_factory=lambda: Spot(), description="losses of nodes")
    chunk: int = Field(50, ge=1, description="frames of a simulated call to the decoder; finer takes longer")
    window: int = Field(100, ge=1, description="likewise to the motion sampler")
    node_start_s: float = Field(150.0, ge=0, description="seconds from asking for a node to having it")
    replica_start_s: float = Field(
        25.0, ge=0, description="seconds until a replica has its model and is warm"
    )
    node_idle_s: float = Field(120.0, ge=0, description="seconds that a node without replicas is kept")

    @model_validator(mode="after")
    def _names(self) -> Scenario:
        names = [tenant.name for tenant in self.tenants]
        if len(set(names)) < len(names):
            raise ValueError("two tenants have one name")
        return self

    def smaller(self) -> Scenario:
        """The cut that is simulated: fewer jobs, and as much less of what they run on.

        What there are two of at least stays two: a single one would make every loss a standstill.
        """

        def less(count: int) -> int:
            return max(min(2, count), round(count * self.cut))

        def stage(plan: StagePlan) -> StagePlan:
            scaling, waiting = plan.scaling, plan.scaling.backlog
            bounds = {"least": less(scaling.least), "most": less(scaling.most)}
            return plan.model_copy(
                update={"scaling": Scaling(**{**scaling.model_dump(), **bounds, "backlog": waiting})}
            )

        workers = self.workers.model_copy(update={"count": less(self.workers.count)})
        return self.model_copy(
            update={
                "renders_per_day": self.renders_per_day * self.cut, "workers": workers, "cut": 1.0,
                "speech": stage(self.speech), "motion": stage(self.motion), "decoder": stage(self.decoder),
            }
        )  # fmt: skip


def load_scenario(path: Path | None, settings: Iterable[str]) -> Scenario:
    """The defaults, changed by a YAML or JSON file and by `a.b=c`: what a group does not name stays as it is.

    Raises NotFound, BadInput naming the setting.
    """
    given = read_mapping(path) if path is not None else {}
    for setting in settings:
        set_value(given, setting)
    values = _changed(Scenario().model_dump(mode="json"), given)
    return validate(Scenario, values, where=str(path) if path is not None else "--set")


def _changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(values)
    for name, change in changes.items():
        before = found.get(name)
        if isinstance(before, Mapping) and isinstance(change, Mapping):
            change = _changed(before, change)
        found[name] = change
    return found
