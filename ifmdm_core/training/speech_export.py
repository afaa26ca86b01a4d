"""A trained speech encoder as the folder that bundles and `SpeechEncoder.load` take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ifmdm_core.speech import SAMPLE_RATE


def export_speech(model: Any, out: Path, report: dict[str, Any]) -> None:
    """Write a `Wav2Vec2Model` as a Hugging Face folder (safetensors), and `report` beside it as speech.json."""
    from transformers import Wav2Vec2FeatureExtractor

    model.save_pretrained(out)
    Wav2Vec2FeatureExtractor(feature_size=1, sampling_rate=SAMPLE_RATE, do_normalize=True).save_pretrained(
        out
    )
    (out / "speech.json").write_text(json.dumps(report, indent=1) + "\n")
