"""A bundle from what trainings wrote, with its way back to their runs and data."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ifmdm_core.bundle import Bundle, SpeechReference, save_bundle
from ifmdm_core.errors import Conflict
from ifmdm_core.storage import S3Config
from pipelines.registry.parts import Part, find_part, half_precision

SPEAKING_LIPS = 1.0
CLIPS = 400
"""Clips that the mouth limit is measured on."""
_CLOSED_SHARE = 0.4


def make_bundle(
    out: str | Path,
    *,
    name: str,
    autoencoder: str,
    motion: str,
    speech: str,
    intended_use: str | None = None,
    licence: str | None = None,
    mouth_limit: float | None = None,
    mlflow: str | None = None,
    s3: S3Config | None = None,
) -> Bundle:
    """Put a bundle together in the folder `out`.

    Args:
        autoencoder, motion, speech: a run, a weights file or a bundle, see `find_part`.
        intended_use, licence: None takes those of the bundles among the sources.
        mouth_limit: lip opening beyond which a portrait counts as open-mouthed; None takes the motion bundle's, or
            measures it on the motion run's clips.

    Raises:
        Conflict: the motion generator was trained on another encoder, or on another speech encoder's features;
            names both. Otherwise what `find_part` raises.
    """
    with tempfile.TemporaryDirectory(prefix="ifmdm-bundle-") as folder:
        scratch = Path(folder)
        parts = {
            part.name: part
            for part in (
                find_part("autoencoder", autoencoder, scratch, mlflow, s3),
                find_part("motion", motion, scratch, mlflow, s3),
                find_part("speech", speech, scratch, mlflow, s3),
            )
        }
        layers = _speech(parts["speech"]).layers
        _require_encoder(parts["autoencoder"], parts["motion"])
        _require_speech(parts["speech"], parts["motion"], layers)
        taken = [part.record for part in parts.values() if part.record is not None]
        source = parts["motion"].record
        if mouth_limit is None:
            mouth_limit = source.mouth_limit if source else _mouth_limit(parts["motion"], s3)
        return save_bundle(
            out,
            name=name,
            autoencoder=parts["autoencoder"].path,
            motion=parts["motion"].path,
            speech=half_precision(parts["speech"], scratch),
            layers=layers,
            mouth_limit=mouth_limit,
            speaking_lips=source.speaking_lips
            if source
            else SPEAKING_LIPS
            if mouth_limit is not None
            else 0.0,
            lineage={key: value for part in parts.values() for key, value in part.lineage.items()},
            intended_use=_inherited(intended_use, [record.intended_use for record in taken]),
            licence=_inherited(licence, [record.licence for record in taken]),
        )


def _speech(part: Part) -> SpeechReference:
    return part.record.speech if part.record else SpeechReference()


def _inherited(given: str | None, found: list[str]) -> str:
    return given if given is not None else "; ".join(dict.fromkeys(text for text in found if text))


def _require_encoder(autoencoder: Part, motion: Part) -> None:
    from ifmdm_core.weights import encoder_digest, read_weights

    tensors, _, _ = read_weights(autoencoder.path)
    _, _, lineage = read_weights(motion.path)
    ours, learned = encoder_digest(tensors), lineage.get("encoder", "unknown")
    if ours != learned:
        raise Conflict(
            f"the motion generator {motion.label} was trained on encoder {learned}, the autoencoder "
            f"{autoencoder.label} has {ours}",
            fix="a new encoder makes old motion generators invalid: extract motion with it (ifmdm data motion) and "
            "train stage 2 on that, or train stage 1 with its encoder frozen (train: generator)",
        )


def _require_speech(speech: Part, motion: Part, layers: tuple[int, ...]) -> None:
    """A hub name is not fetched for this: its revision decides when it is loaded."""
    from ifmdm_core.weights import read_weights
    from pipelines.features.encoders import speech_identity

    together = motion.record is not None and motion.record == speech.record
    wanted = read_weights(motion.path)[2].get("speech")
    if together or wanted is None or isinstance(speech.path, str):
        return
    found = speech_identity(speech.path, layers)
    if found.encoder != wanted:
        raise Conflict(
            f"the motion generator {motion.label} was trained on features of speech encoder {wanted}, "
            f"{speech.label} is {found.encoder}",
            fix="give the speech encoder that the dataset's speech features were made with",
        )
    data = motion.result.data if motion.result else None
    if data is not None and data.speech != found.digest(data.generation):
        raise Conflict(
            f"the motion generator {motion.label} was trained on speech/{data.speech}, {speech.label} with layers "
            f"{layers} makes speech/{found.digest(data.generation)}",
            fix="give the bundle whose encoder and layers made the features",
        )


def _mouth_limit(motion: Part, s3: S3Config | None) -> float | None:
    """The opening that a share of the training frames stays below; None where there is no run to ask."""
    if motion.result is None:
        return None
    import numpy as np

    from ifmdm_core.weights import read_weights
    from pipelines.dataset.batch_items import Features
    from pipelines.dataset.batches import sample_items
    from pipelines.dataset.reader import MotionReader
    from pipelines.training.data import open_dataset

    data = motion.result.data
    reader = MotionReader(
        open_dataset(data, s3),
        data.speech,
        data.motion,
        data.selection,
        data.split,
        generation=data.generation,
    )
    tensors = read_weights(motion.path)[0]
    row, bias = tensors["lip_map"][0].numpy(), float(tensors["lip_bias"][0])
    if not row.any():
        return None
    frames = np.concatenate([item.motion for item in sample_items(reader, Features(), CLIPS)])
    return float(np.quantile(frames @ row + bias, _CLOSED_SHARE))
