"""Bundles from trainings, and which of them is the champion: versions in MLflow's registry, bytes in a store."""
