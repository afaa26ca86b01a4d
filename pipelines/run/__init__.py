"""Running on Ray: the pool of workers, the drivers of each stage, commits and progress."""

import os
import sys

if "ray" not in sys.modules:  # Ray reads these once, when it is imported; later changes would contradict it
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # a pool without GPU leaves CUDA as it is
