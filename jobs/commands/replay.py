"""`ifmdm jobs replay`: take up all dead jobs again."""

from __future__ import annotations

from jobs.commands.steering import Action, steering_app
from jobs.entries import State
from jobs.steer import retry

STATES: frozenset[State] = frozenset(("dead",))

app = steering_app(
    Action("retry", retry, STATES, needs_no_filter=True),
    "Take up dead jobs again, all of them or those that a filter chooses: after what killed them was mended.",
)
