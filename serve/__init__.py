"""Rendering as a service. Nothing here yet; the stages it will serve live in `ifmdm_core`."""
