"""Intervals hold what they should."""

import numpy as np
import pytest

from ifmdm_core.errors import BadInput
from ifmdm_core.metrics.bootstrap import bootstrap, mean_interval


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for i in range(100):
        interval = mean_interval(rng.exponential(1.0, 40), draws=200, seed=i)
        covered += interval.low <= 1.0 <= interval.high
    assert 0.85 <= covered / 100 <= 1.0


def test_columns_are_drawn_together():
    a = np.arange(20.0)
    interval = bootstrap(lambda x, y: float((x - y).mean()), a, a + 3)
    assert (interval.value, interval.low, interval.high) == (-3, -3, -3)
    assert str(interval) == "-3.00 [-3.00, -3.00]"


@pytest.mark.parametrize("columns", [([],), ([1, 2], [1])])
def test_unfit_columns(columns):
    with pytest.raises(BadInput):
        bootstrap(lambda *c: 0.0, *columns)
