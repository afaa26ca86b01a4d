"""Makes the motion set of stage 2 from a training set, the frozen encoder and the speech encoder.

    python -m ifmdm_core.training.motion_extract --set SET --autoencoder autoencoder.safetensors --speech FOLDER
        --work WORK

Slow steps (speech features, motion vectors) are kept in `WORK/data` and done again only when what they depend on
has changed, so speech can be extracted (without --autoencoder) before the encoder is ready.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ifmdm_core.autoencoder import Autoencoder, AutoencoderConfig
from ifmdm_core.metrics.mouth import jaw_opening, mouth_points
from ifmdm_core.speech import SpeechEncoder
from ifmdm_core.training.dataset import ClipRecord, TrainingSet
from ifmdm_core.training.loop import sample_rng
from ifmdm_core.training.motion_data import MotionClip, MotionSet, fit_lip_map, lip_map_quality
from ifmdm_core.training.silence import SilenceEdit, close_lips, completion
from ifmdm_core.training.speech_targets import clip_audio, estimate_offsets, usable_clips
from ifmdm_core.weights import encoder_digest, load_network, tensor_digest

Array = NDArray[np.float32]


def plan_edits(clips: list[ClipRecord], count: int, seed: int) -> list[tuple[ClipRecord, SilenceEdit]]:
    """`count` edited copies of training clips, drawn evenly."""
    sources = [clip for clip in clips if clip.split == "train" and clip.num_frames >= 16]
    edits = []
    for number in range(count if sources else 0):
        rng = sample_rng(seed, 0, number)
        clip = sources[int(rng.integers(len(sources)))]
        edits.append((clip, SilenceEdit.draw(rng, clip.num_frames)))
    return edits


def measure_lips(data: TrainingSet, clips: list[ClipRecord], dims: int) -> Array:
    """Lip measurements [N, dims] of the clips' rows in a row: opening, then components of mouth shape.

    Each has deviation 1 within training clips.
    """
    landmarks = np.concatenate([np.asarray(data.landmarks[c.rows]) for c in clips])
    gap = jaw_opening(landmarks)[:, None]  # [N, 1]
    points = mouth_points(landmarks).reshape(len(landmarks), -1)  # [N, 141]
    ends = np.cumsum([c.num_frames for c in clips])
    train = np.concatenate([np.full(c.num_frames, c.split == "train") for c in clips])

    def within(values: Array) -> Array:
        return np.concatenate([part - part.mean(0) for part in np.split(values, ends[:-1])])

    deviations = within(points)[train]
    basis = np.linalg.eigh(deviations.T @ deviations)[1][:, ::-1][:, : dims - 1]  # [141, dims - 1]
    lips = np.concatenate([gap, points @ basis], 1)
    return (lips / (within(lips)[train].std(0) + 1e-8)).astype(np.float32)


def encode_speech(
    encoder: SpeechEncoder,
    data: TrainingSet,
    clips: list[ClipRecord],
    edits: list[tuple[ClipRecord, SilenceEdit]],
    offsets: dict[str, float],
) -> Array:
    """Features [N, S] of all clips, then of all edited ones."""
    rows = []
    for clip in clips:
        rows.append(encoder.encode(clip_audio(data, clip, offsets), 25, clip.num_frames).cpu().numpy())
    for clip, edit in edits:
        sound = edit.audio(clip_audio(data, clip, offsets))
        rows.append(encoder.encode(sound, 25, clip.num_frames + edit.count).cpu().numpy())
    return np.concatenate(rows)


@torch.inference_mode()
def encode_motion(
    autoencoder: Autoencoder, data: TrainingSet, clips: list[ClipRecord], batch: int = 64
) -> Array:
    """Motion vectors [N, 20] of all clips; pictures are decoded while the encoder works."""
    rows = np.concatenate([np.arange(c.first, c.first + c.num_frames) for c in clips])
    device = next(autoencoder.parameters()).device

    def load(part: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.stack([data.frame(int(row)) for row in part])

    def batches() -> Iterator[NDArray[np.uint8]]:
        parts = np.split(rows, np.arange(batch, len(rows), batch))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(load, parts[0])
            for part in parts[1:]:
                ready, waiting = waiting.result(), pool.submit(load, part)
                yield ready
            yield waiting.result()

    motion = []
    for images in batches():
        pictures = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 255  # [B, 3, S, S]
        motion.append(autoencoder.encode_motion(pictures).float().cpu().numpy())
    return np.concatenate(motion)


def assemble(
    motion: Array,
    speech: NDArray[np.float16],
    lips: Array,
    clips: list[ClipRecord],
    edits: list[tuple[ClipRecord, SilenceEdit]],
    lineage: dict[str, str],
) -> MotionSet:
    """The motion set: clips as they are, then edited ones with lips closed where they are quiet.

    motion, lips: [N, ...] of the clips in order; speech: of clips and edited clips.
    """
    firsts = np.concatenate([[0], np.cumsum([c.num_frames for c in clips])]).astype(int)
    records = [
        MotionClip(c.name, c.split, c.kind, int(first), c.num_frames)
        for c, first in zip(clips, firsts, strict=False)
    ]
    place = {c.name: record for c, record in zip(clips, records, strict=True)}
    train = [record for record in records if record.split == "train"]
    lip_map, lip_bias = fit_lip_map(motion, lips, train)
    within = np.concatenate([motion[r.rows] - motion[r.rows].mean(0) for r in train])
    back = completion(lip_map, within.T @ within / len(within))
    all_motion, all_lips, first = [motion], [lips], int(firsts[-1])
    for number, (clip, edit) in enumerate(edits):
        rows = place[clip.name].rows
        own_motion, own_lips = motion[rows], lips[rows]
        source, closing = edit.rows(clip.num_frames), edit.closing(clip.num_frames)
        closed = int(own_lips[:, 0].argmin())
        all_motion.append(close_lips(own_motion[source], own_motion[closed], closing, lip_map, back))
        all_lips.append(own_lips[source] + closing[:, None] * (own_lips[closed] - own_lips[source]))
        records.append(MotionClip(f"{clip.name}+{number}", clip.split, "silence", first, len(source)))
        first += len(source)
    return MotionSet(
        records, np.concatenate(all_motion), speech, np.concatenate(all_lips).astype(np.float32),
        lip_map, lip_bias, lineage,
    )  # fmt: skip


def _cached(path: Path, key: str) -> NDArray[np.float32] | None:
    mark = path.with_suffix(".key")
    if path.is_file() and mark.is_file() and mark.read_text() == key:
        return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]
    return None


def _keep(path: Path, key: str, value: NDArray[np.floating]) -> None:
    np.save(path, value, allow_pickle=False)
    path.with_suffix(".key").write_text(key)


def main(arguments: list[str] | None = None) -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m ifmdm_core.training.motion_extract", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--set", required=True, type=Path, help="training set folder")
    parser.add_argument("--speech", required=True, help="speech encoder folder or hub name")
    parser.add_argument(
        "--autoencoder", type=Path, help="autoencoder.safetensors; without it only speech is encoded"
    )
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--edits", type=int, default=600, help="clips with quiet audio put in")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--bf16", action="store_true", help="motion encoder in bfloat16")
    parser.add_argument("--threads", type=int, help="CPU threads")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    folder = options.work / "data"
    folder.mkdir(parents=True, exist_ok=True)
    data = TrainingSet(options.set)
    clips = usable_clips(data, "train") + usable_clips(data, "heldout")
    edits = plan_edits(clips, options.edits, options.seed)

    encoder = SpeechEncoder.load(options.speech, device=options.device)
    speech_digest = tensor_digest(encoder.model.state_dict())
    key = json.dumps([speech_digest, encoder.layers, len(clips), options.edits, options.seed])
    speech = _cached(folder / "speech_all.npy", key)
    if speech is None:
        offsets = estimate_offsets(data)
        print("sound comes late by (frames)", offsets)
        speech = encode_speech(encoder, data, clips, edits, offsets)
        _keep(folder / "speech_all.npy", key, speech)
    print(f"speech features {speech.shape}")
    if options.autoencoder is None:
        return

    autoencoder = load_network(options.autoencoder, AutoencoderConfig, Autoencoder).to(options.device)
    motion_digest = encoder_digest(autoencoder.state_dict())
    key = json.dumps([motion_digest, len(clips)])
    motion = _cached(folder / "motion_all.npy", key)
    if motion is None:
        if options.bf16:
            autoencoder = autoencoder.set_precision(torch.bfloat16)
        motion = encode_motion(autoencoder, data, clips)
        _keep(folder / "motion_all.npy", key, motion)
    from ifmdm_core.motion.config import MotionConfig

    lips = measure_lips(data, clips, MotionConfig.preset("demo").lip_dim)
    lineage = {"encoder": motion_digest, "speech": speech_digest}
    result = assemble(motion, speech.astype(np.float16), lips, clips, edits, lineage)
    result.save(folder)
    print(f"motion {result.motion.shape}, held-out lip map R2 {lip_map_quality(result)}")


if __name__ == "__main__":
    main()
