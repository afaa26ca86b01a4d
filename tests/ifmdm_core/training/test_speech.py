"""Training of the speech encoder: targets, offsets, augmentation, and a few real steps to a loadable checkpoint."""

import json

import cv2
import numpy as np
import pytest
import torch

from ifmdm_core.metrics.mouth import _TEMPLATE
from ifmdm_core.speech import SpeechEncoder
from ifmdm_core.training.dataset import TrainingSet, TrainingSetWriter
from ifmdm_core.training.speech import SpeechData, SpeechTrainer, SpeechTraining, train_speech
from ifmdm_core.training.speech_augment import change_speed, roughen
from ifmdm_core.training.speech_model import SpeechHeads, demo_model
from ifmdm_core.training.speech_targets import clip_audio, estimate_offsets, lip_targets, usable_clips

LATE = {"grid": 0, "mixed": 2}
SMALL = {"seconds": 3.0, "hidden": 32, "layers": 1, "heads": 2, "synthetic": 3}


def speaking(rng: np.random.Generator, frames: int, late: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Meshes, blendshapes and sound of a mouth whose opening the sound's level and pitch follow."""
    opening = np.convolve(rng.standard_normal(frames + late + 4), np.hanning(7)[1:-1] / 2, "valid")
    opening = np.clip(0.12 + 0.08 * opening, 0, 0.4)
    meshes = np.repeat(np.random.default_rng(1).uniform(-0.5, 0.5, (1, 478, 3)), frames, 0)
    for index, *place in _TEMPLATE:
        meshes[:, index] = place
    shown = opening[late:] if late else opening
    for i, (upper, lower) in enumerate(zip((82, 13, 312), (87, 14, 317), strict=True)):
        meshes[:, upper] = (0.1 * i - 0.1, 0.8, 0.0)
        meshes[:, lower] = np.stack(
            [np.full(frames, 0.1 * i - 0.1), 0.8 + shown[:frames], np.zeros(frames)], 1
        )
    meshes = 0.5 + 0.25 * (meshes + rng.normal(0, 0.003, meshes.shape))
    shapes = np.tile(rng.uniform(0, 0.2, 52), (frames, 1)) + rng.normal(0, 0.01, (frames, 52))
    shapes[:, 25] = np.clip(2 * shown[:frames], 0, 1)
    level = np.repeat(opening[:frames], 640)  # the sound is `late` frames behind the picture
    time = np.arange(len(level)) / 16000
    sound = level * (np.sin(2 * np.pi * 300 * time) + 0.5 * np.sin(2 * np.pi * 1700 * time * (1 + level)))
    sound += 0.003 * rng.standard_normal(len(level))
    return meshes, shapes, (np.clip(sound, -1, 1) * 32000).astype(np.int16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("set")
    writer = TrainingSetWriter(path)
    rng = np.random.default_rng(0)
    jpeg = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    for number in range(26):
        kind = "grid" if number % 2 else "mixed"
        frames = 30 if number % 3 == 0 else 70
        meshes, shapes, sound = speaking(rng, frames, LATE[kind])
        writer.add_clip(
            f"clip{number}", [jpeg] * frames, meshes, shapes, np.ones(frames, bool), sound,
            split="heldout" if number >= 22 else "train", kind=kind, rights="A", identity="one", source_fps=25.0,
        )  # fmt: skip
    writer.add_speech("talk", (rng.standard_normal(48000) * 3000).astype(np.int16), split="train", rights="A")
    writer.finish()
    return path


def test_targets_are_clip_deviations_of_unit_size(folder):
    data = TrainingSet(folder)
    targets = lip_targets(data, components=4)
    rows = np.concatenate([np.arange(c.first, c.first + c.num_frames) for c in usable_clips(data, "train")])
    np.testing.assert_allclose(targets.values[rows].std(0), 1, atol=0.05)
    for clip in data.clips:
        assert np.abs(targets.values[clip.rows].mean(0)).max() < 0.1
    assert targets.weights.sum() == pytest.approx(1, abs=1e-5)
    gap, jaw = (
        targets.values[:, targets.names.index("gap")],
        targets.values[:, targets.names.index("jawOpen")],
    )
    assert np.corrcoef(gap, jaw)[0, 1] > 0.9


def test_late_sound_is_found_and_taken_out(folder):
    data = TrainingSet(folder)
    offsets = estimate_offsets(data)
    assert offsets["grid"] == 0
    assert offsets["mixed"] == pytest.approx(LATE["mixed"], abs=0.5)
    clip = next(c for c in data.clips if c.kind == "mixed")
    moved = clip_audio(data, clip, {"mixed": 2.0})
    assert len(moved) == clip.num_frames * 640
    np.testing.assert_array_equal(moved[:-1280], data.audio(clip)[1280:])
    assert not moved[-1280:].any()


def test_speed_stretches_sound_and_lips_alike():
    frames = 50
    samples = np.sin(2 * np.pi * 200 * np.arange(frames * 640) / 16000).astype(np.float32)
    values = np.arange(frames, dtype=np.float32)[:, None]
    stretched, followed = change_speed(samples, values, 1.1, 40)
    assert len(stretched) == 40 * 640
    np.testing.assert_allclose(followed[:, 0], np.arange(40) * 1.1, atol=1e-3)
    pitch = np.abs(np.fft.rfft(stretched)).argmax() * 16000 / len(stretched)
    assert pitch == pytest.approx(220, abs=2)


def test_roughening_keeps_length_and_changes_each_recording():
    x = torch.randn(4, 16000) * 0.1
    rough = roughen(x, np.random.default_rng(0))
    assert rough.shape == x.shape
    assert torch.isfinite(rough).all()
    levels = (rough.square().mean(1) / x.square().mean(1)).sqrt()
    assert levels.max() / levels.min() > 1.2
    again = roughen(x, np.random.default_rng(0))
    assert torch.equal(rough, again)


def test_the_new_model_hears_bands_from_the_start():
    """A louder and a quieter tone, and two tones a band apart, differ in the front end before any training."""
    model = demo_model(hidden=32, layers=1, heads=2).eval()
    time = torch.arange(8000) / 16000

    def hear(hertz: float, level: float = 1.0) -> torch.Tensor:
        tone = level * torch.sin(2 * np.pi * hertz * time)
        return model.feature_extractor(tone[None])[0, :, 5:15].mean(1).detach()

    def apart(a: torch.Tensor, b: torch.Tensor) -> float:
        return 1 - float(torch.nn.functional.cosine_similarity(a, b, dim=0))

    assert apart(hear(400), hear(700)) > 10 * apart(hear(400), hear(405))
    assert apart(hear(400, 1.0), hear(400, 0.02)) > 0.02


def test_contrast_prefers_matching_lips():
    torch.manual_seed(0)
    heads = SpeechHeads(hidden=8, lips=8, visemes=3)
    features = torch.randn(4, 30, 8)
    optimizer = torch.optim.Adam(heads.parameters(), 0.01)
    for _ in range(60):
        loss = heads.contrast(features, features)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 1.5 < heads.contrast(features, features.roll(7, 1))


def test_every_kind_of_batch_takes_a_step(folder):
    from ifmdm_core.training.loop import LoopState

    data = SpeechData(TrainingSet(folder), synthetic=3)
    for kind in ("short", "long", "speech", "synthetic"):
        trainer = SpeechTrainer(data, SpeechTraining(**SMALL, mix={kind: 1.0}))
        before = trainer.model.encoder.layers[0].feed_forward.output_dense.weight.detach().clone()
        assert torch.isfinite(trainer.step(LoopState())["loss"])
        assert not torch.equal(trainer.model.encoder.layers[0].feed_forward.output_dense.weight, before)


def test_training_writes_a_checkpoint_that_loads(folder, tmp_path):
    config = SpeechTraining(**SMALL)
    report = train_speech(folder, tmp_path / "speech", None, 2, config)
    assert report["steps"] == 2
    report = train_speech(folder, tmp_path / "speech", None, 3, config)  # goes on from the checkpoint
    assert report["steps"] == 3
    assert set(report["heldout"]) == {"grid", "mixed"}
    assert json.loads((tmp_path / "speech" / "speech.json").read_text())["offsets_frames"]["mixed"] > 0
    encoder = SpeechEncoder.load(tmp_path / "speech")
    assert (encoder.dim, encoder.stride, encoder.normalised) == (32, 320, True)
    assert encoder.encode(np.zeros(16000, np.float32)).shape == (25, 32)
