"""Decisions about replicas are Serve's own, in simulated time."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve import autoscaling_policy
from ray.serve.config import AutoscalingContext

from ifmdm_core.storage.memory import Bucket, MemoryStorage
from infra.planning.simulation.serve_rules import ServeRules
from serve.application import autoscaling
from serve.config import Scaling
from serve.scaling import BacklogSnapshot, LoadAndBacklog, write_backlog

SCALING = Scaling(least=0, most=20, target=2.0, upscale_delay_s=5, downscale_delay_s=30, backlog=10)


class ByServe:
    """What Serve's controller does with a policy, by the wrapper that it uses; the clock it reads is set by hand."""

    def __init__(self, scaling: Scaling, policy: Any) -> None:
        self._config, self._state = autoscaling(scaling, "simulated"), {}
        self._wrapped = autoscaling_policy._apply_autoscaling_config(policy)

    def decide(self, now: float, running: int, target: int, ongoing: float) -> int:
        config = self._config
        context = AutoscalingContext(
            None, "decoder", "app", running, target, [], ongoing, None, None, None, config.min_replicas,
            config.max_replicas, self._state, None, None, now, config,
        )  # fmt: skip
        wanted, self._state = self._wrapped(context)
        return max(config.min_replicas, min(config.max_replicas, math.ceil(wanted)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("least", [0, 2])
def test_a_day_of_decisions_is_as_by_serves_own_wrapper(
    seed: int, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaling = SCALING.model_copy(update={"least": least})
    service, chance, now = MemoryStorage(Bucket("service")), random.Random(seed), 0.0
    snapshot = BacklogSnapshot(service, lambda: now, follows=False)
    policy = LoadAndBacklog("simulated", 10, snapshot)
    ours, serves = ServeRules("decoder", scaling, policy), ByServe(scaling, policy)
    monkeypatch.setattr(autoscaling_policy, "time", SimpleNamespace(time=lambda: now))
    running = target = least
    seen = set()
    load = 0.0
    for _ in range(600):
        now += 1.0
        if chance.random() < 0.05:
            load = chance.choice([0.0, 1.0, 10.0, 100.0])
            write_backlog(service, chance.choice([0, 0, 35, 500]), now)
            snapshot.look()
        decided = ours.decide(now, running, target, load)
        assert decided == serves.decide(now, running, target, load)
        target = decided
        running += (target > running) - (target < running)
        seen.add(target)
    assert len(seen) >= 3


def test_load_counts_after_its_delay_and_rest_after_its_own() -> None:
    rules = ServeRules("decoder", SCALING.model_copy(update={"backlog": None}))
    decisions = [rules.decide(now, 2, 2, 12.0) for now in range(7)]
    assert decisions == [2, 2, 2, 2, 2, 6, 2]  # from then on Serve's target is 6
    decisions = [rules.decide(100 + now, 6, 6, 4.0) for now in range(31)]
    assert decisions == [6] * 30 + [2]


def test_waiting_jobs_bring_replicas_until_nobody_speaks_of_them_any_more() -> None:
    service, now = MemoryStorage(Bucket("service")), 0.0
    snapshot = BacklogSnapshot(service, lambda: now, follows=False)
    rules = ServeRules("decoder", SCALING, LoadAndBacklog("simulated", 10, snapshot))
    write_backlog(service, 75, at=1.0)
    snapshot.look()
    wanted = []
    for second in range(200):
        now = float(second)
        wanted.append(rules.decide(now, 1, 1, 0.0))
    assert wanted[5] == 8
    assert wanted[-1] == 1
