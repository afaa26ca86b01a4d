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
    a, b = (_deviations(features) for features in (first, second))  # C1 = a^T a, C2 = b^T b
    if max(len(a), len(b)) < a.shape[1]:
        cross = np.linalg.svd(a @ b.T, compute_uv=False)  # squared: the eigenvalues of C1 C2 that are not 0
    else:
        values, vectors = np.linalg.eigh(a.T @ a)
        root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
        inner = np.linalg.eigvalsh(root @ (b.T @ b) @ root)  # the same eigenvalues as C1 C2, and symmetric
        cross = np.sqrt(np.maximum(inner, 0))
    moved = ((first.mean(0, dtype=np.float64) - second.mean(0, dtype=np.float64)) ** 2).sum()
    return float(max(0.0, moved + (a**2).sum() + (b**2).sum() - 2 * cross.sum()))


def _deviations(features: Features) -> NDArray[np.float64]:
    """Rows about their mean, scaled so that their square is the covariance, [n, d]."""
    wide = features.astype(np.float64)
    return (wide - wide.mean(0)) / np.sqrt(len(wide) - 1)
