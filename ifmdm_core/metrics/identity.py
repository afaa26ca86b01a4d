"""Does the face stay the same person? Cosines of an embedding that first has to show what it is worth (table 8)."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.errors import BadInput

Features = NDArray[np.float32]
Embed = Callable[[NDArray[np.uint8]], Features]
"""Pictures uint8 [n, H, W, 3] to unit vectors [n, d]."""

WORST_ERROR = 0.15
"""Above this error rate on held-out people no identity figure is given."""


def equal_error_rate(embeddings: Features, people: NDArray[np.int64]) -> float:
    """Error rate at the threshold where strangers pass as often as the same person fails.

    Args:
        embeddings: unit vectors [n, d]. people: person number [n].

    Raises:
        BadInput: no pair of the same, or no pair of different people.
    """
    upper = np.triu_indices(len(people), 1)
    cosines = (embeddings @ embeddings.T)[upper]
    same = (people[:, None] == people)[upper]
    if not same.any() or same.all():
        raise BadInput(
            f"{int(same.sum())} pairs of one person, {int((~same).sum())} of two", fix="give both kinds"
        )
    order = np.argsort(-cosines)
    passed_strangers = np.cumsum(~same[order]) / (~same).sum()
    failed_friends = 1 - np.cumsum(same[order]) / same.sum()
    at = int(np.argmin(np.abs(passed_strangers - failed_friends)))
    return float((passed_strangers[at] + failed_friends[at]) / 2)


def identity_row(source: Features, rendered: Features, error_rate: float | None) -> str:
    """The table's cell: mean cosine of source [d] and rendered frames [n, d], or why there is none."""
    if error_rate is None:
        return "not available: give weights of a face embedding"
    if error_rate > WORST_ERROR:
        return f"not available: the embedding errs on {100 * error_rate:.0f} % of held-out people"
    cosine = float((rendered @ source).mean())
    return f"{cosine:.2f} (embedding errs on {100 * error_rate:.0f} % of held-out people)"
