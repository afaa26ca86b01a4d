"""Puts what the trainings wrote together as a bundle, in half precision.

python -m ifmdm_core.training.make_bundle --autoencoder FINISH/autoencoder.safetensors
    --motion STAGE2/motion.safetensors --speech SPEECH --data STAGE2/data --out BUNDLE --name demo
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ifmdm_core.autoencoder import Autoencoder, AutoencoderConfig
from ifmdm_core.bundle import Bundle, save_bundle
from ifmdm_core.training.motion_data import MotionSet
from ifmdm_core.weights import load_network, read_weights, save_weights

INTENDED_USE = (
    "Research and demonstration only, non-commercial; portraits of people who agreed. Trained in part on footage whose "
    "rights were not granted for other uses."
)
LICENCE = "research and demonstration only, non-commercial"
CLOSED_SHARE = 0.4
"""Portraits whose mouth is open wider than in this share of training frames start with it closed down to that."""

SPEAKING_LIPS = 1.0
"""How far the mean mouth opening goes from a portrait's (closed) to a speaker's; docs/decisions.md has the figures."""


def mouth_limit(data: MotionSet) -> float:
    """The lip opening, in units of the lip map, above which a portrait counts as open-mouthed."""
    rows = np.concatenate([np.arange(c.first, c.first + c.num_frames) for c in data.of("train")])
    opening = data.motion[rows] @ data.lip_map[0] + data.lip_bias[0]
    return float(np.quantile(opening, CLOSED_SHARE))


def make_bundle(autoencoder: Path, motion: Path, speech: Path, data: Path, out: Path, name: str) -> Bundle:
    """Write the bundle and check it by loading it. Raises what `save_bundle` raises."""
    model = load_network(autoencoder, AutoencoderConfig, Autoencoder)
    _, _, lineage = read_weights(autoencoder)
    with tempfile.TemporaryDirectory() as scratch:
        half, small = Path(scratch) / "autoencoder.safetensors", Path(scratch) / "speech"
        save_weights(half, model, model.config, lineage, dtype=torch.float16)
        small.mkdir()
        for file in sorted(speech.glob("*.json")):
            shutil.copy(file, small)
        weights = load_file(speech / "model.safetensors")
        halved = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
        save_file(halved, small / "model.safetensors", {"format": "pt"})
        return save_bundle(
            out, name=name, autoencoder=half, motion=motion, speech=small,
            mouth_limit=mouth_limit(MotionSet.load(data)), speaking_lips=SPEAKING_LIPS, lineage=lineage,
            intended_use=INTENDED_USE, licence=LICENCE,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a bundle of trained weights.")
    for option, text in (
        ("autoencoder", "stage 1 weights"),
        ("motion", "stage 2 weights"),
        ("speech", "speech encoder folder"),
        ("data", "the motion set stage 2 was trained on"),
        ("out", "bundle folder"),
    ):
        parser.add_argument(f"--{option}", type=Path, required=True, help=text)
    parser.add_argument("--name", default="demo")
    bundle = make_bundle(**vars(parser.parse_args()))
    print(
        f"{bundle.folder}: {sum(f.stat().st_size for f in bundle.folder.rglob('*') if f.is_file()) / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    main()
