"""Costs from measurements."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.planning.fitting import fit

seconds = st.floats(0.001, 1000)
samples = st.lists(st.tuples(seconds, seconds), min_size=1, max_size=30)


def test_a_line_is_found_with_what_a_job_costs_whatever_its_length() -> None:
    cost = fit([(1, 0.7), (2, 0.9), (4, 1.3)], "frame")
    assert (cost.per_job, cost.per_unit, cost.unit, cost.samples) == (
        pytest.approx(0.5),
        pytest.approx(0.2),
        "frame",
        3,
    )
    assert cost.seconds(10) == pytest.approx(2.5)
    assert (cost.low, cost.high) == (pytest.approx(1), pytest.approx(1))


def test_the_spread_leaves_the_outermost_tenths_out() -> None:
    cost = fit([(0, value) for value in (1.0, *[2.0] * 8, 3.0)])
    assert cost.per_job == 2.0
    assert (cost.low, cost.high) == (1.0, 1.0)
    cost = fit([(0, value) for value in (1.0, 1.0, *[2.0] * 6, 3.0, 3.0)])
    assert (cost.low, cost.high) == (0.5, 1.5)


@given(samples)
def test_nothing_costs_less_than_nothing_and_the_sum_is_what_was_measured(
    found: list[tuple[float, float]],
) -> None:
    cost = fit(found)
    assert cost.per_job >= 0
    assert cost.per_unit >= 0
    assert sum(cost.seconds(units) for units, _ in found) == pytest.approx(sum(s for _, s in found), rel=1e-6)


def test_nothing_measured_gives_nothing() -> None:
    with pytest.raises(ValueError, match="no samples"):
        fit([])
