"""The whole system on one machine: `ifmdm up`, `down`, `status`."""
