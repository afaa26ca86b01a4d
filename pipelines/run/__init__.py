"""Running on Ray: the pool of workers, the drivers of each stage, commits and progress."""

from ifmdm_core.ray_defaults import set_ray_defaults

set_ray_defaults()
