"""The commands of `ifmdm_core`, one module each, imported only when one is run."""
