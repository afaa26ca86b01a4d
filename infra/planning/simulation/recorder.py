"""What a simulation has seen: waits by tenant, and a line of figures every few minutes."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.names import JobRef

QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and the largest; zeros of nothing."""
    ordered = sorted(values)
    if not ordered:
        return {**dict.fromkeys(QUANTILES, 0.0), "most": 0.0}
    found = {
        name: ordered[min(len(ordered) - 1, math.floor(q * len(ordered)))] for name, q in QUANTILES.items()
    }
    return {name: round(value, 3) for name, value in {**found, "most": ordered[-1]}.items()}


@dataclass
class Waits:
    """Of one tenant's jobs, in seconds."""

    queue: array[float] = field(default_factory=lambda: array("d"))
    """From being submitted to the first claim."""
    whole: array[float] = field(default_factory=lambda: array("d"))
    """From there to the published output."""


class Recorder:
    """Listens to one simulation."""

    def __init__(self) -> None:
        self.tenants: dict[str, Waits] = {}
        self.submitted = self.claimed = self.published = self.again = 0
        self.series: list[dict[str, Any]] = []
        self.last_published_at = 0.0
        self._entered_at: dict[JobRef, float] = {}
        self._recent: array[float] = array("d")

    @property
    def waiting(self) -> int:
        """Jobs that nobody has ever claimed."""
        return self.submitted - self.claimed

    def submit(self, ref: JobRef, now: float) -> None:
        self.submitted += 1
        self._entered_at[ref] = now

    def claim(self, ref: JobRef, epoch: int, now: float) -> None:
        if epoch > 1:
            self.again += 1
            return
        self.claimed += 1
        waited = now - self._entered_at[ref]
        self.tenants.setdefault(ref.tenant, Waits()).queue.append(waited)
        self._recent.append(waited)

    def publish(self, ref: JobRef, now: float) -> None:
        self.published += 1
        self.last_published_at = now
        self.tenants[ref.tenant].whole.append(now - self._entered_at.pop(ref))

    def line(self, now: float, figures: Mapping[str, Any]) -> None:
        """One line of the series."""
        waits = quantiles(self._recent)
        self._recent = array("d")
        self.series.append(
            {
                "at_s": round(now, 1), "submitted": self.submitted, "published": self.published,
                "waiting": self.waiting, "wait_p50_s": waits["p50"], "wait_p95_s": waits["p95"], **figures,
            }
        )  # fmt: skip

    def summary(self) -> dict[str, Any]:
        """Counts and waits, all tenants together and one by one."""
        queue = [wait for waits in self.tenants.values() for wait in waits.queue]
        whole = [wait for waits in self.tenants.values() for wait in waits.whole]
        return {
            "submitted": self.submitted, "published": self.published, "claimed_again": self.again,
            "wait_s": quantiles(queue), "submit_to_published_s": quantiles(whole),
            "tenants": {
                name: {
                    "jobs": len(waits.queue), "wait_s": quantiles(waits.queue),
                    "submit_to_published_s": quantiles(waits.whole),
                }
                for name, waits in sorted(self.tenants.items())
            },
        }  # fmt: skip
