"""Datasets and training at scale. So far: procedural talking faces (`pipelines.synthetic`)."""
