"""One claimed job becomes one video file."""
