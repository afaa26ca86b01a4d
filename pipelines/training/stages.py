"""The stages by name; their modules are imported when they are asked for."""

from __future__ import annotations

import importlib

from ifmdm_core.errors import BadInput, nearest
from pipelines.training.stage import Stage

STAGES = {
    "speech": "pipelines.training.speech_stage:SpeechStage",
    "autoencoder": "pipelines.training.autoencoder_stage:AutoencoderStage",
    "motion": "pipelines.training.motion_stage:MotionStage",
}


def stage_named(name: str) -> Stage:
    """A stage.

    Raises:
        BadInput: there is none of that name.
    """
    if name not in STAGES:
        raise BadInput(f"there is no stage {name!r} to train", fix=nearest(name, STAGES))
    module, _, attribute = STAGES[name].partition(":")
    made: Stage = getattr(importlib.import_module(module), attribute)()
    return made
