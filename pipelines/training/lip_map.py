"""The map from motion to lips that a training uses: a bundle's, or one fitted on pictures of the dataset."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.bundle import Bundle
from ifmdm_core.errors import Conflict
from pipelines.dataset.batches import sample_items
from pipelines.dataset.motion_frames import MotionFrames
from pipelines.dataset.reader import MotionReader
from pipelines.training.run import DataRecord
from pipelines.training.stage import say_nothing

CLIPS = 96
"""Clips that a map is fitted on."""

Array = NDArray[np.float32]


def lip_map_of(bundle: Bundle) -> tuple[Array, Array]:
    """Map [L, 20] and bias [L] of a bundle's motion generator."""
    generator = bundle.motion()
    return generator.lip_map.numpy(), generator.lip_bias.numpy()


def fitted_lip_map(
    reader: MotionReader, dims: int, seed: int, say: Callable[[str], None] = say_nothing
) -> tuple[Array, Array]:
    """Map [dims, 20] and bias [dims] from how mouths move in some clips (about 20 ms a frame).

    Raises:
        BadInput: too few faces are seen.
    """
    from ifmdm_core.training.lip_map import fit_picture_lip_map

    say(f"fitting a lip map on pictures of at most {CLIPS} clips")
    made = fit_picture_lip_map(sample_items(reader, MotionFrames(), CLIPS, seed), dims)
    return made.matrix, made.bias


def require_same_motion_encoder(bundle: Bundle, name: str, data: DataRecord) -> None:
    """Raises Conflict when the motion features were made by another encoder than the bundle's."""
    if bundle.record.encoder != data.motion_encoder:
        raise Conflict(
            f"reference: the motion encoder of {name} is {bundle.record.encoder}, motion/{data.motion} was made by "
            f"{data.motion_encoder}",
            fix="give the bundle that made the features, or other features with data.motion",
        )
