"""A portrait whose mouth is open starts with closed lips: what speech adds comes on top of the portrait's motion."""

from __future__ import annotations

from torch import Tensor

from ifmdm_core.motion.diffusion import LIMIT
from ifmdm_core.motion.transformer import MotionGenerator


def closed_mouth(generator: MotionGenerator, hint: Tensor, limit: float | None) -> Tensor:
    """The hint [20] with lips closed down to `limit` (in spreads), by the smallest change of m; None leaves it."""
    if limit is None:
        return hint
    opening = float(generator.lip_map[0] @ hint + generator.lip_bias[0])
    excess = max(0.0, opening - limit)
    return (hint - excess * generator.opening_step()).clamp(-LIMIT, LIMIT)
