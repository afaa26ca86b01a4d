"""Frechet distance between two sets of features: the arithmetic of FID.

Which network the features come from is the caller's: no weights are bundled, so figures called FID need the
Inception weights given by the operator. Checked here on Gaussians with known distance; not validated as FID.
"""

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.errors import BadInput

Features = NDArray[np.floating]


def frechet_distance(first: Features, second: Features) -> float:
    """|mu1 - mu2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of features [n, d] and [m, d].

    Raises:
        BadInput: fewer than two rows, or different widths.
    """
    if (
        first.ndim != 2
        or second.ndim != 2
        or first.shape[1] != second.shape[1]
        or min(len(first), len(second)) < 2
    ):
        raise BadInput(
            f"features of shapes {first.shape} and {second.shape}", fix="give [n, d] and [m, d], n, m > 1"
        )
    a, b = first.astype(np.float64), second.astype(np.float64)
    covariance_a, covariance_b = np.atleast_2d(np.cov(a.T)), np.atleast_2d(np.cov(b.T))
    values, vectors = np.linalg.eigh(covariance_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ covariance_b @ root)  # the same eigenvalues as C1 C2, and symmetric
    trace = np.trace(covariance_a) + np.trace(covariance_b) - 2 * np.sqrt(np.maximum(cross, 0)).sum()
    return float(max(0.0, ((a.mean(0) - b.mean(0)) ** 2).sum() + trace))
