"""A face mesh with known lips."""

from collections.abc import Callable

import numpy as np
import pytest

from ifmdm_core.metrics.mouth import _TEMPLATE


@pytest.fixture(scope="session")
def make_mesh() -> Callable[..., np.ndarray]:
    """mesh(gap): one frontal mesh [1, 478, 3] in eye distances with that gap between the inner lips."""

    def mesh(gap: float = 0.1) -> np.ndarray:
        points = np.random.default_rng(0).uniform(-0.5, 0.5, (478, 3))
        for index, *place in _TEMPLATE:
            points[index] = place
        for i, (upper, lower) in enumerate(zip((82, 13, 312), (87, 14, 317), strict=True)):
            points[upper] = (0.1 * i - 0.1, 0.8, 0.0)
            points[lower] = (0.1 * i - 0.1, 0.8 + gap, 0.0)
        return points[None].astype(np.float32)

    return mesh
