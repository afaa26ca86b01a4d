"""Figures with their intervals: bootstrap over clips, the unit that is independent."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ifmdm_core.errors import BadInput


class Interval(NamedTuple):
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.value != self.value:
            return "not available"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def bootstrap(
    statistic: Callable[..., float], *columns: ArrayLike, draws: int = 2000, seed: int = 0
) -> Interval:
    """The statistic of columns that hold one entry per clip, with its percentile interval over redrawn clips.

    Args:
        statistic: takes the columns (numpy arrays, first axis = clips) and gives a number.

    Raises:
        BadInput: no clip, or columns of different lengths.
    """
    arrays = [np.asarray(column) for column in columns]
    count = len(arrays[0])
    if count == 0 or any(len(array) != count for array in arrays):
        raise BadInput(
            f"bootstrap over columns of {[len(a) for a in arrays]} clips", fix="give equal lengths above 0"
        )
    rng = np.random.default_rng(seed)
    values: NDArray[np.float64] = np.empty(draws)
    for i in range(draws):
        chosen = rng.integers(count, size=count)
        values[i] = statistic(*(array[chosen] for array in arrays))
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [2.5, 97.5]) if len(finite) else (np.nan, np.nan)
    return Interval(float(statistic(*arrays)), float(low), float(high))


def mean_interval(values: ArrayLike, draws: int = 2000, seed: int = 0) -> Interval:
    """Mean of one value per clip with its interval."""
    return bootstrap(lambda column: float(np.mean(column)), values, draws=draws, seed=seed)
