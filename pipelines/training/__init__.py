"""Training on Ray Train: runs in a folder or bucket, their checkpoints, workers that may die, and the stages."""
