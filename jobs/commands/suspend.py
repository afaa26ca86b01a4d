"""`ifmdm jobs suspend`: hold jobs back."""

from __future__ import annotations

from jobs.commands.steering import Action, steering_app
from jobs.entries import State
from jobs.steer import stop

STATES: frozenset[State] = frozenset(("queued", "running"))

app = steering_app(
    Action("suspend", lambda store, ref: stop(store, ref, "suspend"), STATES),
    "Hold jobs back until they are resumed. One that runs stops within seconds and begins anew later.",
)
