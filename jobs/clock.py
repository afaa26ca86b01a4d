"""Time and chance as the protocol sees them: one object, so that a simulation can own both."""

from __future__ import annotations

import random
import time
from typing import Protocol


class Clock(Protocol):
    """What may differ between two runs of the same code."""

    chance: random.Random

    def now(self) -> float:
        """Seconds since 1970, by this machine; may be wrong, and may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """This machine's."""

    def __init__(self) -> None:
        self.chance = random.Random()

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
