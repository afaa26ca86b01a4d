"""What every process of ours tells Ray before it is imported. It knows no Ray: only names of environment variables."""

from __future__ import annotations

import os
import sys

DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a worker without a GPU of its own leaves CUDA as it is
}


def set_ray_defaults() -> None:
    """Sets what the environment does not say; to be called before Ray is imported."""
    if "ray" not in sys.modules:  # it reads these once; later changes would contradict it
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
