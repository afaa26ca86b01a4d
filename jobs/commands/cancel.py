"""`ifmdm jobs cancel`: end jobs."""

from __future__ import annotations

from jobs.commands.steering import Action, steering_app
from jobs.entries import State
from jobs.steer import stop

STATES: frozenset[State] = frozenset(("queued", "running", "suspended"))

app = steering_app(
    Action("cancel", lambda store, ref: stop(store, ref, "cancel"), STATES),
    "End jobs, by id or all that a filter chooses. One that runs stops within seconds.",
)
