"""Datasets, trainings, evaluations and the registry, on Ray; `pipelines.api` has one function per command."""
