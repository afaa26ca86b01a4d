"""`ifmdm jobs retry`: take up jobs again that have ended without a video."""

from __future__ import annotations

from jobs.commands.steering import Action, steering_app
from jobs.entries import State
from jobs.steer import retry

STATES: frozenset[State] = frozenset(("failed", "dead", "expired"))

app = steering_app(
    Action("retry", retry, STATES),
    "Take up jobs again that failed, are dead or expired, with a clean slate. Cancelled ones only by id or --state.",
)
