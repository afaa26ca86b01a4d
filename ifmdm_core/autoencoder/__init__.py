"""Stage 1: a portrait becomes appearance features, a frame becomes 20 numbers, both become a frame (paper 3.2)."""

from ifmdm_core.autoencoder.autoencoder import Autoencoder, Identity
from ifmdm_core.autoencoder.config import AutoencoderConfig

__all__ = ["Autoencoder", "AutoencoderConfig", "Identity"]
