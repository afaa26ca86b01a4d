"""Stage 2 (paper 3.3, 3.4): a diffusion transformer turns speech features into motion vectors."""

from ifmdm_core.motion.config import MotionConfig
from ifmdm_core.motion.sampler import MotionSampler, WindowRequest
from ifmdm_core.motion.transformer import Conditions, MotionGenerator

__all__ = ["Conditions", "MotionConfig", "MotionGenerator", "MotionSampler", "WindowRequest"]
