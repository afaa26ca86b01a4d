"""Scoring sync: which offset fits, how well sound and mouth belong together, and S against the real video.

Offsets are in frames at 25 fps; positive means that the sound comes late.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ifmdm_core.errors import BadInput
from ifmdm_core.metrics.bootstrap import Interval, bootstrap
from ifmdm_core.metrics.mel import log_mel
from ifmdm_core.metrics.sync_model import MEL_PER_FRAME, WINDOW_FRAMES, SyncScorer

Array = NDArray[np.float32]

REACH = 10
"""Offsets searched: -10 .. +10 frames."""
LEAST_ROOM = 0.1
"""Draws whose C_truth - C_shuffled is below this part of all clips' give no S: a quotient by nearly nothing."""
DRAWS = 2000
EDGE = 3
"""Frames at both ends of a clip that are never scored: codecs and cuts leave marks there."""
SPEECH_NEPERS = 4.6
"""Windows quieter than the clip's loud ones by more than this (20 dB) hold no speech and are not scored."""


@dataclass(frozen=True)
class SyncCurve:
    """Mean cosine between mouth and sound at every offset."""

    similarity: Array
    """[2 * REACH + 1], from offset -REACH to +REACH."""
    windows: int
    """Mouth windows that were scored."""

    @property
    def offset(self) -> int:
        """The offset in frames that fits best; positive: the sound comes late."""
        return int(np.argmax(self.similarity)) - REACH

    @property
    def confidence(self) -> float:
        """C: the best cosine within two frames of zero minus the mean of those at least five frames away."""
        near = self.similarity[REACH - 2 : REACH + 3].max()
        away = np.concatenate([self.similarity[: REACH - 4], self.similarity[REACH + 5 :]])
        return float(near - away.mean())


def mel_frames(samples: Array, num_frames: int) -> Array:
    """Log-mels [64, 4 * num_frames] of a clip's sound, frame 0 at sample 0; a short end is filled with silence."""
    wanted = num_frames * MEL_PER_FRAME * 160
    padded = np.pad(samples[:wanted], (0, max(0, wanted - len(samples))))
    return log_mel(torch.from_numpy(np.ascontiguousarray(padded)))[:, : num_frames * MEL_PER_FRAME].numpy()


def speech_windows(mel: Array) -> NDArray[np.bool_]:
    """Which windows of 11 frames hold speech: [T - 10] from log-mels [64, 4 T]."""
    level = mel.mean(0).reshape(-1, MEL_PER_FRAME).mean(1)  # [T]
    windows = np.convolve(level, np.ones(WINDOW_FRAMES) / WINDOW_FRAMES, "valid")
    return windows > np.percentile(windows, 95) - SPEECH_NEPERS


@torch.no_grad()
def sync_curve(scorer: SyncScorer, mel: Array, mouths: Array, edge: int = EDGE) -> SyncCurve:
    """Score one clip.

    Args:
        scorer: R or P, in eval mode.
        mel: [64, 4 T] from `mel_frames`.
        mouths: what the scorer sees: lip points [T, 40, 2] or grey pictures uint8 [T, 64, 96].
        edge: frames left out at both ends.

    Raises:
        BadInput: sound and picture differ in length, or fewer than 17 frames plus the edges.
    """
    frames = len(mouths)
    if mel.shape[1] != MEL_PER_FRAME * frames:
        raise BadInput(f"{mel.shape[1]} mel columns for {frames} frames", fix="give four columns a frame")
    if frames < 2 * edge + WINDOW_FRAMES + 6:
        raise BadInput(f"a clip of {frames} frames", fix=f"give at least {2 * edge + WINDOW_FRAMES + 6}")
    inputs = torch.from_numpy(np.ascontiguousarray(mouths)).float()
    if scorer.sees == "pictures":
        inputs = inputs / 255.0
    sound, mouth = scorer(torch.from_numpy(np.ascontiguousarray(mel))[None], inputs[None])
    cosines = (mouth[0] @ sound[0].T).numpy()  # [T - 10 of mouth, T - 10 of sound]
    count = len(cosines)
    inner = np.arange(edge, count - edge)
    central = inner[(inner >= edge + REACH) & (inner < count - edge - REACH)]
    places = central if len(central) >= 8 else inner  # the same windows at every offset where the clip allows
    speech = speech_windows(mel)
    spoken = places[speech[places]]
    places = spoken if len(spoken) >= 3 else places
    similarity = np.full(2 * REACH + 1, np.nan, np.float32)
    for k, offset in enumerate(range(-REACH, REACH + 1)):
        at = places + offset
        inside = (at >= edge) & (at < count - edge)
        if inside.any():
            similarity[k] = cosines[places[inside], at[inside]].mean()
    similarity = np.nan_to_num(similarity, nan=float(np.nanmin(similarity)))
    return SyncCurve(similarity, len(places))


def relative_score(ours: ArrayLike, truth: ArrayLike, shuffled: ArrayLike) -> Interval:
    """S = (C - C_shuffled) / (C_truth - C_shuffled) of mean confidences, one entry per clip, bootstrapped over clips.

    1 is as good as the real video, 0 no better than somebody else's sound. Not a number where the scorer cannot tell
    those two apart on the clips: in the mean, or in over a fifth of the draws. The other draws make the interval.
    """
    room = float(np.asarray(truth).mean() - np.asarray(shuffled).mean())
    lost = 0

    def ratio(c: Array, c_truth: Array, c_shuffled: Array) -> float:
        nonlocal lost
        between = float(c_truth.mean() - c_shuffled.mean())
        if between <= LEAST_ROOM * room:
            lost += 1
            return float("nan")
        return float(c.mean() - c_shuffled.mean()) / between

    nothing = Interval(float("nan"), float("nan"), float("nan"))
    if room <= 0:
        return nothing
    found = bootstrap(ratio, ours, truth, shuffled, draws=DRAWS)
    return nothing if lost > DRAWS / 5 else found
