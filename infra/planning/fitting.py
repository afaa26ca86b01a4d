"""A cost from measurements: the least-squares line, never below zero, with the spread around it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from infra.planning.rates import Cost

SPREAD = 0.1
"""Part of the samples beyond each end of the spread that is told."""


def fit(samples: Sequence[tuple[float, float]], unit: str = "job") -> Cost:
    """The cost that (units, seconds) of jobs show; its sum over these jobs is the sum that was measured.

    Raises ValueError without samples.
    """
    if not samples:
        raise ValueError("no samples")
    units, seconds = [count for count, _ in samples], [taken for _, taken in samples]
    per_job, per_unit = _line(units, seconds)
    fitted = [per_job + per_unit * count for count in units]
    shares = sorted(taken / expected for taken, expected in zip(seconds, fitted, strict=True) if expected > 0)
    edge = int(SPREAD * len(shares))
    low, high = (shares[edge], shares[-1 - edge]) if shares else (1.0, 1.0)
    return Cost(
        per_job=per_job,
        per_unit=per_unit,
        unit=unit,
        samples=len(samples),
        low=max(low, 1e-9),
        high=max(high, 1e-9),
    )


def _line(units: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """(intercept, slope), neither below zero; through the mean either way."""
    mean_units, mean_seconds = statistics.fmean(units), statistics.fmean(seconds)
    if min(units) == max(units):
        return (0.0, mean_seconds / mean_units) if mean_units > 0 else (mean_seconds, 0.0)
    slope, intercept = statistics.linear_regression(units, seconds)
    if slope < 0:
        return mean_seconds, 0.0
    if intercept < 0:
        return 0.0, mean_seconds / mean_units
    return intercept, slope
