"""The whole on tiny random networks: streaming, rates, sizes, seeds, memory."""

from __future__ import annotations

import gc
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from ifmdm_core.autoencoder import Autoencoder, AutoencoderConfig
from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.frame_decoder import default_dtype
from ifmdm_core.media.audio import Audio, audio_from_samples
from ifmdm_core.motion import MotionConfig, MotionGenerator
from ifmdm_core.speech_source import SpeechSource
from ifmdm_core.talking_head import TalkingHead, _device

FAST = {"steps": 1, "face": "none"}


def sound(seconds: float, rate: int = 16_000) -> Audio:
    time = np.arange(int(seconds * rate)) / rate
    return audio_from_samples((0.3 * np.sin(900 * time) * np.sin(9 * time)).astype(np.float32), rate)


@pytest.fixture(scope="module")
def head(tiny_bundle: Path) -> TalkingHead:
    return TalkingHead.load(tiny_bundle, device="cpu", dtype=torch.float32)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (96, 80, 3), np.uint8)


def test_stages_alone_give_what_the_whole_gives(head, photo):
    audio, controls = sound(2.6), RenderControls(**FAST, seed=4)
    portrait = head.open_portrait(photo, controls)
    identity, hint = head.identity(portrait)
    features = head.speech_encoder.encode(audio.samples, 25, 65)
    motion = torch.cat(list(head.motion(features, hint, controls)))
    alone = np.concatenate([head.frames(identity, part) for part in motion.split(head.chunk)])
    whole = np.concatenate(list(head.stream(photo, audio, controls)))
    assert whole.shape == (65, 64, 64, 3)
    assert whole.dtype == np.uint8
    assert np.abs(alone.astype(int) - whole).max() <= 1


def test_the_first_chunk_needs_one_window_only(head, photo, monkeypatch):
    asked = []
    real = SpeechSource.__call__
    monkeypatch.setattr(SpeechSource, "__call__", lambda self, f, n: asked.append(f + n) or real(self, f, n))
    stream = head.stream(photo, sound(20.0), RenderControls(**FAST))
    assert len(next(stream)) == head.chunk
    assert max(asked) <= 50
    stream.close()


@pytest.mark.parametrize(("fps", "frames"), [(25, 33), (30, 39), (12, 16), (60, 78)])
def test_any_frame_rate_has_exactly_its_frames(head, photo, fps, frames):
    video = head.render(photo, sound(1.3), RenderControls(**FAST, fps=fps))
    assert video.num_frames == len(video) == frames
    assert sum(1 for _ in video) == frames


def test_one_frame_of_audio_is_enough_and_less_is_told(head, photo):
    assert sum(len(c) for c in head.stream(photo, sound(0.1), RenderControls(**FAST))) == 3
    with pytest.raises(BadInput, match="1 fps"):
        head.render(photo, sound(0.3), RenderControls(**FAST, fps=1))


def test_size_and_paste_back(head, photo):
    audio = sound(0.3)
    assert next(head.stream(photo, audio, RenderControls(**FAST, size=96))).shape[1:] == (96, 96, 3)
    small = RenderControls(steps=1, face=(20, 30, 24, 24), paste_back=True)
    chunk = next(head.stream(photo, audio, small))
    assert chunk.shape[1:] == photo.shape
    assert np.array_equal(chunk[0, :6], photo[:6]), "outside the square the photo is untouched"
    assert not np.array_equal(chunk[0], photo)


def test_iterating_again_repeats_and_another_seed_does_not(head, photo):
    # Random networks hardly move; make them.
    with torch.no_grad():
        for parameter in head.motion_sampler.generator.parameters():
            if parameter.abs().sum() == 0:
                torch.nn.init.normal_(parameter, std=0.3)
    video = head.render(photo, sound(0.6), RenderControls(**FAST, seed=1))
    first, second = np.stack(list(video)), np.stack(list(video))
    assert np.array_equal(first, second)
    features = head.speech_encoder.encode(sound(0.6).samples)
    _, hint = head.identity(head.open_portrait(photo, RenderControls(**FAST)))
    motions = [
        torch.cat(list(head.motion(features, hint, RenderControls(**FAST, seed=s)))) for s in (1, 1, 2)
    ]
    assert torch.equal(motions[0], motions[1])
    assert not torch.allclose(motions[0], motions[2], atol=1e-2)


def test_motion_does_not_depend_on_the_precision_of_pictures(tiny_bundle, head, photo):
    half = TalkingHead.load(tiny_bundle, device="cpu", dtype=torch.bfloat16)
    controls = RenderControls(**FAST)
    identity, hint = half.identity(half.open_portrait(photo, controls))
    full_identity, full_hint = head.identity(head.open_portrait(photo, controls))
    assert torch.allclose(hint, full_hint, atol=1e-5)
    motion = hint + 0.1 * torch.randn(4, 20)
    difference = half.frames(identity, motion).astype(int) - head.frames(full_identity, motion)
    assert np.abs(difference).mean() < 1.0


def test_speech_features_in_blocks_are_those_of_the_whole(head, monkeypatch):
    monkeypatch.setattr("ifmdm_core.speech_source.SPEECH_BLOCK", 60)
    audio = sound(14.0)
    whole = head.speech_encoder.encode(audio.samples, 25, 350)
    features = head.speech(audio.samples)
    got, at = [], 0
    for count in (50, 46, 31, 100, 1, 122):
        start = max(0, at - 10)
        got.append(features(start, at + count - start)[at - start :])
        at += count
    assert torch.allclose(torch.cat(got), whole, atol=1e-4)
    assert len(features._blocks) <= 2


def test_memory_does_not_grow_with_the_audio(head, photo):
    """Two minutes after ten seconds: nothing of the video may be kept."""

    def peak() -> float:
        gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB

    def run(audio: Audio) -> None:
        for _ in head.stream(photo, audio, RenderControls(**FAST)):
            pass

    short, long = sound(10.0), sound(120.0)
    run(short)
    before = peak()
    run(long)
    assert peak() - before < 40  # 3,000 frames of 64 x 64 would be 37 MB, their float tensors 147 MB


def test_the_paper_preset_renders_at_512(head, photo):
    """Random weights, the speech encoder of the tiny bundle."""
    torch.manual_seed(0)
    paper = TalkingHead(
        Autoencoder(AutoencoderConfig.preset("paper")).eval().requires_grad_(False),
        MotionGenerator(MotionConfig.preset("paper", head.speech_encoder.dim)).requires_grad_(False),
        head.speech_encoder,
        chunk=1,
    )
    video = paper.render(photo, sound(0.1), RenderControls(**FAST))
    frames = list(video)
    assert len(frames) == 3
    assert frames[0].shape == (512, 512, 3)
    portrait = paper.open_portrait(photo, RenderControls(**FAST))
    identity, _ = paper.identity(portrait)
    at_rest = paper.frames(identity, identity.motion)[0]
    assert np.abs(at_rest.astype(int) - portrait.crop).max() <= 1, (
        "the portrait's own motion gives the portrait"
    )


def test_devices_and_bundles_that_are_not_there(tmp_path):
    with pytest.raises(BadInput, match="tpu9000"):
        _device("tpu9000")
    with pytest.raises(NotFound):
        TalkingHead.load(tmp_path / "none")
    assert default_dtype(torch.device("cuda")) == torch.bfloat16
