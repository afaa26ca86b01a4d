"""Tables 6 to 8 and the controls: reconstruction, seams, identity, and whether pose and intensity do as they say."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.controls import RenderControls
from ifmdm_core.metrics.bootstrap import mean_interval
from ifmdm_core.metrics.controls import hold_drift, is_monotone, spread
from ifmdm_core.metrics.reconstruction import (
    EYE_RINGS,
    MOUTH_RING,
    background_speed,
    different_lips,
    gain_over_copying,
    region_box,
    sharpness_ratio,
)
from ifmdm_core.metrics.seams import seam_ratio
from ifmdm_core.metrics.stage import Clip, Stage
from ifmdm_core.metrics.tables import Figure, Table

Array = NDArray[np.float32]
INTENSITIES = (0.1, 0.3, 0.5, 0.7, 0.9)


def reconstruction_table(stage: Stage, clips: list[Clip], pairs_per_clip: int = 12, seed: int = 0) -> Table:
    """Table 6: stage 1 alone, source to target of the same clip, on the quarter of pairs whose lips differ most."""
    table = Table(
        title="6. Reconstruction, pairs in the top quartile of lip difference",
        columns=["measure", "value"],
        note="Stage 1 with the target's own motion. Gain over copying the source, 95 % bootstrap over clips.",
    )
    rng = np.random.default_rng(seed)
    mouth, eyes, sharp_mouth, sharp_eyes, speeds = [], [], [], [], []
    for clip in clips:
        good = np.flatnonzero(np.isfinite(clip.meshes[:, 0, 0]))
        pairs = different_lips(np.nan_to_num(clip.meshes), rng.choice(good, (4 * pairs_per_clip, 2)))[
            :pairs_per_clip
        ]
        gains = []
        for source, target in pairs:
            identity, _ = stage.subject(clip.crops[source])
            rendered = stage.frames(identity, stage.true_motion(clip.crops[target][None]))[0]
            wanted = clip.crops[target]
            regions = [region_box(clip.meshes[target], ring) for ring in (MOUTH_RING, EYE_RINGS)]
            gains.append([gain_over_copying(clip.crops[source], wanted, rendered, box) for box in regions])
            sharp_mouth.append(sharpness_ratio(rendered, wanted, regions[0]))
            sharp_eyes.append(sharpness_ratio(rendered, wanted, regions[1]))
        mouth.append(float(np.mean([g[0] for g in gains])))
        eyes.append(float(np.mean([g[1] for g in gains])))
        identity, _ = stage.subject(clip.crops[clip.source])
        stretch = slice(0, 25)
        rendered = stage.frames(identity, stage.true_motion(clip.crops[stretch]))
        meshes = clip.meshes[stretch][np.isfinite(clip.meshes[stretch, 0, 0])]
        truth = background_speed(clip.crops[stretch], meshes)
        if np.isfinite(truth) and truth > 0.05:
            speeds.append(background_speed(rendered, meshes) / truth)
    gain = mean_interval(mouth)
    for key, values in (("reconstruction_gain_db", mouth), ("reconstruction_gain_eyes_db", eyes)):
        if (figure := Figure.of(mean_interval(values), len(values))) is not None:
            table.figures[key] = figure
    table.add("mouth: gain over copying, dB", gain)
    table.add("eyes: gain over copying, dB", mean_interval(eyes))
    table.add("mouth: sharpness ratio", float(np.median(sharp_mouth)))
    table.add("eyes: sharpness ratio", float(np.median(sharp_eyes)))
    table.add("background speed / truth", float(np.median(speeds)) if speeds else None)
    table.gate("mouth gain at least +1 dB (trained on a CPU)", gain, gain.value >= 1.0)
    for name, values in (("mouth", sharp_mouth), ("eyes", sharp_eyes)):
        middle = float(np.median(values))
        table.gate(f"{name} sharpness 0.6 to 1.2", middle, 0.6 <= middle <= 1.2)
    if speeds:
        table.gate("background speed at most 1.5", float(np.median(speeds)), float(np.median(speeds)) <= 1.5)
    return table


def seam_table(stage: Stage, picture: NDArray[np.uint8], sound: Array, seams: int = 32) -> Table:
    """Table 7: acceleration at window borders against elsewhere, in generated motion scaled by natural spread."""
    from ifmdm_core.motion.windows import plan_windows

    table = Table(title="7. Seams between windows", columns=["measure", "value"])
    config = stage.head.motion_sampler.config
    frames, windows = config.window, plan_windows(config.window, config)
    while len(windows) <= seams:
        frames += config.stride
        windows = plan_windows(frames, config)
    _, hint = stage.subject(picture)
    sound = np.resize(sound, frames * 640)
    motion = stage.motion(sound, hint, frames) / stage.spread
    borders = [window.first for window in windows[1:]]
    ratio = seam_ratio(motion, borders)
    if (figure := Figure.of(ratio, len(borders), "near 1")) is not None:
        table.figures["seam_ratio"] = figure
    table.add("window borders", len(borders))
    table.add("acceleration at borders / elsewhere", ratio)
    table.gate("0.8 to 1.25", ratio, 0.8 <= ratio.value <= 1.25)
    return table


def control_table(stage: Stage, pictures: list[NDArray[np.uint8]], sounds: list[Array]) -> Table:
    """Intensity and pose: sigma of the motion by intensity, and how far a held pose wanders."""
    table = Table(
        title="Controls: intensity and pose",
        columns=["control", "sigma", "|mean - m^i| / sigma", "worst dimension"],
        note=f"Generated motion of {len(pictures)} portraits with {len(sounds)} sounds each.",
    )
    subjects: list[Any] = [stage.subject(picture)[1] for picture in pictures]

    def measure(controls: RenderControls) -> tuple[float, float, float]:
        motions, portraits = [], []
        for hint in subjects:
            for sound in sounds:
                frames = len(sound) // 640
                motions.append(stage.motion(sound, hint, frames, controls))
                portraits.append(hint.float().cpu().numpy())
        drift = hold_drift(motions, portraits)
        return spread(motions, portraits), drift.mean, drift.worst

    sigmas = []
    for intensity in INTENSITIES:
        sigma, mean, worst = measure(RenderControls(intensity=intensity))
        sigmas.append(sigma)
        table.add(f"intensity {intensity}", f"{sigma:.4f}", mean, worst)
    for pose in ("hold", 0.5, "evolve"):
        sigma, mean, worst = measure(RenderControls(pose=pose))
        table.add(f"pose {pose}", f"{sigma:.4f}", mean, worst)
        if pose == "hold":
            table.gate("hold: |mean - m^i| below 0.25 sigma", mean, mean < 0.25)
    ratio = sigmas[-1] / max(sigmas[1], 1e-9)
    table.gate("sigma rises with intensity", ", ".join(f"{s:.4f}" for s in sigmas), is_monotone(sigmas))
    table.gate("sigma(0.9) / sigma(0.3) at least 1.8", ratio, ratio >= 1.8)
    return table


def unavailable_table() -> Table:
    """Table 8 and the paper's own figures, which need weights that are not bundled."""
    table = Table(title="8. Identity, and figures that need others' weights", columns=["figure", "value"])
    table.add("identity (cosine of an embedding)", "not available: give weights of a face embedding")
    table.add(
        "FID",
        "not available: give weights of InceptionV3; arithmetic in metrics.frechet, not validated as FID",
    )
    table.add("LSE-C, LSE-D", "not available: give weights of SyncNet")
    table.add("CSIM", "not available: give weights of ArcFace")
    table.add("TC", "not available: give weights of RAFT; it rewards stillness, so it gates nothing")
    return table
