"""Trying again what a busy or silent store refused, later each time and at random moments."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from ifmdm_core.errors import Busy, DiskFull

MAX_WAIT_S = 30.0
"""The longest wait of our own choice; a store's `retry_after` may ask for more."""

T = TypeVar("T")
OnRetry = Callable[[str], None]
"""Called with the cause, one line, before each new try."""

_log = logging.getLogger(__name__)


def with_retries(
    call: Callable[[], T],
    what: str,
    attempts: int = 6,
    on_retry: OnRetry | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """The result of `call`, tried up to `attempts` times while it raises Busy or Unavailable.

    Waits double from half a second, with jitter, and are never shorter than the error's `retry_after`. A full disk
    is not tried again.

    Args:
        what: what is done, for the log line that shows the cause ("upload clips/00001").
        on_retry: takes the cause instead of the log.

    Raises:
        The last error, or any other error at once.
    """

    def show(state: RetryCallState) -> None:
        wait = state.next_action.sleep if state.next_action else 0.0
        if on_retry is not None:
            on_retry(str(_cause(state)))
            return
        again = f"try {state.attempt_number + 1} of {attempts} in {wait:.1f} s"
        _log.warning("%s: %s, after: %s", what, again, _cause(state))

    retrying = Retrying(
        retry=retry_if_exception(is_transient),
        wait=_wait,
        stop=stop_after_attempt(attempts),
        before_sleep=show,
        sleep=sleep,
        reraise=True,
    )
    return retrying(call)


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed a little later."""
    return isinstance(error, Busy) and not isinstance(error, DiskFull)


def _wait(state: RetryCallState) -> float:
    longest = min(MAX_WAIT_S, 0.5 * 2 ** (state.attempt_number - 1))
    error = _cause(state)
    asked = error.retry_after if isinstance(error, Busy) else 0.0
    # Jitter on both parts: a thousand workers refused at once must not come back at once.
    return asked * random.uniform(1.0, 1.5) + random.uniform(0.0, longest)


def _cause(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
