"""Training loops that need only PyTorch, NumPy and OpenCV; no cluster, no tracking server."""
