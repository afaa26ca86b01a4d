"""Ray Serve's decision about replicas, in simulated time: the policy in force, then Serve's own factors and delays.

Serve wraps a policy in `_apply_autoscaling_config`, which reads the machine's clock; the steps of that wrapper are
taken here one by one, by Serve's own functions, with the simulation's time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from serve.config import Scaling

Policy = Callable[[Any], tuple[float, dict[str, Any]]]
"""Of an AutoscalingContext: replicas wanted, and what it wants to be told the next time."""


class ServeRules:
    """Decides for one stage, as Serve's controller does about once a second.

    Args:
        policy: None is Serve's own, as for a stage whose `scaling.backlog` is None.
    """

    def __init__(self, name: str, scaling: Scaling, policy: Policy | None = None) -> None:
        from ray.serve import autoscaling_policy

        from serve.application import autoscaling

        self._ray = autoscaling_policy
        self._name, self._config = name, autoscaling(scaling, root="simulated")
        self._policy: Policy = policy or autoscaling_policy.replica_queue_length_autoscaling_policy
        self._state: dict[str, Any] = {}

    def decide(self, now: float, running: int, target: int, ongoing: float) -> int:
        """Replicas wanted from now on.

        Args:
            now: seconds.
            running: replicas that answer calls.
            target: what was decided last.
            ongoing: calls that wait or are worked on, averaged as Serve does.
        """
        from ray.serve.config import AutoscalingContext

        config, rules = self._config, self._ray
        context = AutoscalingContext(
            deployment_id=None, deployment_name=self._name, app_name="simulated", current_num_replicas=running,
            target_num_replicas=target, running_replicas=[], total_num_requests=ongoing, total_queued_requests=None,
            aggregated_metrics=None, raw_metrics=None, capacity_adjusted_min_replicas=config.min_replicas,
            capacity_adjusted_max_replicas=config.max_replicas, policy_state=dict(self._state),
            last_scale_up_time=None, last_scale_down_time=None, current_time=now, config=config,
        )  # fmt: skip
        wanted = rules._get_cold_start_scale_up_replicas(context)
        if wanted is None:
            desired, theirs = self._policy(context)
            scaled = rules._apply_scaling_factors(desired, running, config)
            if running == 0 and scaled > 0:
                wanted = scaled
            else:
                inner = rules._extract_internal_policy_state(self._state)
                wanted, inner = rules._apply_delay_logic(max(0, scaled), target, config, inner, _now=now)
                self._state = {**theirs, **inner}
        return max(config.min_replicas, min(config.max_replicas, math.ceil(wanted)))
