"""A bundle judged on held-out clips, beside the real videos, controls and other systems' videos (ifmdm evaluate)."""
