"""Stage 2 (paper 3.3, 3.4): a diffusion transformer turns speech features into motion vectors.

The attributes below load on first use: the shape of a generator can be named without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_LAZY = {
    "Conditions": "ifmdm_core.motion.transformer",
    "MotionConfig": "ifmdm_core.motion.config",
    "MotionGenerator": "ifmdm_core.motion.transformer",
    "MotionSampler": "ifmdm_core.motion.sampler",
    "WindowRequest": "ifmdm_core.motion.windows",
}

__all__ = ["Conditions", "MotionConfig", "MotionGenerator", "MotionSampler", "WindowRequest"]

if TYPE_CHECKING:
    from ifmdm_core.motion.config import MotionConfig
    from ifmdm_core.motion.sampler import MotionSampler
    from ifmdm_core.motion.transformer import Conditions, MotionGenerator
    from ifmdm_core.motion.windows import WindowRequest


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ifmdm_core.motion' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
