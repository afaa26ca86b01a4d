"""`ifmdm jobs resume`: let suspended jobs go on."""

from __future__ import annotations

from jobs.commands.steering import Action, steering_app
from jobs.entries import State
from jobs.steer import resume

STATES: frozenset[State] = frozenset(("suspended",))

app = steering_app(
    Action("resume", resume, STATES), "Let suspended jobs wait again, at the end of the queue."
)
