"""A training's figures in MLflow: one run per training, written first to the run's own storage, sent when it can be."""
