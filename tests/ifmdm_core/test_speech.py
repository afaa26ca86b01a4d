"""Speech features on frames: spans equal wholes, times line up, silence stays silence, bad checkpoints are refused."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model

from ifmdm_core.errors import BadInput, NotFound, Unsupported
from ifmdm_core.speech import SpeechEncoder, interpolate_tokens, normalise, speech_frames

TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_kernel": (400, 3),
    "conv_stride": (160, 2),
    "conv_dim": (12, 12),
    "num_feat_extract_layers": 2,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}


def noise(seconds: float, level: float = 0.1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(round(seconds * 16000)) * level).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Wav2Vec2Model(Wav2Vec2Config(**TINY))


@pytest.fixture
def encoder(model):
    return SpeechEncoder(model, window_s=1.0, overlap_s=0.3)


@given(st.integers(1, 10**7), st.sampled_from([1, 24, 25, 30, 60]))
def test_frames_of_audio_round_to_the_nearest(samples, fps):
    assert speech_frames(samples, fps) == math.floor(Fraction(samples * fps, 16000) + Fraction(1, 2))


def test_any_span_has_the_values_of_the_whole(encoder):
    samples = noise(6.3)
    whole = encoder.encode(samples)
    assert whole.shape == (158, 16)
    for first, count in [(0, 5), (17, 40), (30, 1), (100, 58), (157, 1)]:
        assert torch.equal(encoder.encode_span(samples, first, count), whole[first : first + count])


def test_no_forward_pass_is_longer_than_a_window(encoder):
    lengths = []
    hook = encoder.model.register_forward_pre_hook(lambda _, args: lengths.append(args[0].shape[1]))
    encoder.encode(noise(20))
    hook.remove()
    assert max(lengths) <= 16000 + 720
    assert len(lengths) < 35  # every window once, not once per span


def test_windows_that_hold_everything_equal_the_whole_file(model):
    assert SpeechEncoder(model).window_fidelity(noise(3)) == pytest.approx(1.0, abs=1e-5)
    assert SpeechEncoder(model, window_s=1, overlap_s=0.4).window_fidelity(noise(4)) < 0.99999


def test_token_times_are_the_middles_of_what_tokens_see(encoder):
    assert (encoder.stride, encoder.receptive) == (320, 720)
    # token k sees samples 320 k to 320 k + 720, so its middle is at 320 k + 360
    frame = torch.tensor([3.0])
    assert encoder.windows.frame_positions(
        1, fps=16000 / (320 * 3 + 360), first_frame=1
    ).item() == pytest.approx(frame.item())


def test_an_event_shows_at_its_frame(model):
    """What the convolutions hear of a burst at 0.8 s lies around frame 20."""
    samples = np.zeros(25600, np.float32)
    samples[12800 - 200 : 12800 + 200] = noise(0.025)
    front = model.feature_extractor(torch.from_numpy(samples)[None])[0].T.detach()  # [t, 12]
    frames = interpolate_tokens(front, SpeechEncoder(model).windows.frame_positions(40))
    heard = frames.abs().sum(1).nonzero()[:, 0]
    assert heard.float().mean().item() == pytest.approx(20, abs=0.5)


def test_interpolation_between_tokens_and_held_ends():
    tokens = torch.tensor([[0.0], [10.0], [30.0]])
    positions = torch.tensor([-1.0, 0.25, 1.5, 9.0], dtype=torch.float64)
    assert interpolate_tokens(tokens, positions)[:, 0].tolist() == [0.0, 2.5, 20.0, 30.0]


def test_near_silence_is_not_blown_up():
    assert normalise(torch.from_numpy(noise(1))).std().item() == pytest.approx(1, abs=0.01)
    hum = torch.from_numpy(noise(1, 10 ** (-80 / 20)))
    assert normalise(hum).std().item() < 0.05
    assert torch.isfinite(normalise(torch.zeros(100))).all()


def test_very_short_and_longer_than_audio(encoder):
    assert encoder.encode(noise(0.02)).shape == (1, 16)
    held = encoder.encode(noise(1), num_frames=40)
    assert torch.equal(held[-1], held[-5])
    assert encoder.encode(noise(1), num_frames=0).shape == (0, 16)


def test_layers_are_joined_or_averaged(model):
    samples = noise(1)
    both = SpeechEncoder(model, layers=(0, 2)).encode(samples)
    parts = [SpeechEncoder(model, layers=(layer,)).encode(samples) for layer in (0, 2)]
    assert torch.equal(both, torch.cat(parts, -1))
    mean = SpeechEncoder(model, layers=(0, 2), combine="mean").encode(samples)
    torch.testing.assert_close(mean, (parts[0] + parts[1]) / 2)


@pytest.mark.parametrize("layers", [(3,), (-4,), ()])
def test_layers_that_do_not_exist(model, layers):
    with pytest.raises(BadInput, match="hidden states"):
        SpeechEncoder(model, layers=layers)


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), np.full(8000, np.nan, np.float32)])
def test_unusable_samples(encoder, samples):
    with pytest.raises(BadInput):
        encoder.encode(samples, num_frames=5)


def test_checkpoints_load_by_folder_with_the_same_values(model, tmp_path):
    model.save_pretrained(tmp_path / "w2v")
    samples = noise(1.2)
    loaded = SpeechEncoder.load(tmp_path / "w2v")
    torch.testing.assert_close(loaded.encode(samples), SpeechEncoder(model).encode(samples))
    HubertModel(HubertConfig(**TINY)).save_pretrained(tmp_path / "hubert")
    assert SpeechEncoder.load(tmp_path / "hubert", layers=(1, -1)).encode(samples).shape == (30, 32)


def test_preprocessor_settings_are_followed(model, tmp_path):
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"sampling_rate": 16000, "do_normalize": false}')
    assert not SpeechEncoder.load(tmp_path).normalised
    (tmp_path / "preprocessor_config.json").write_text('{"sampling_rate": 8000}')
    with pytest.raises(Unsupported, match="8000 Hz"):
        SpeechEncoder.load(tmp_path)


def test_checkpoints_that_are_refused(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(Unsupported, match="safetensors"):
        SpeechEncoder.load(tmp_path / "pickled")
    with pytest.raises(NotFound, match="no-such-model"):
        SpeechEncoder.load(tmp_path / "no-such-model")
    model.save_pretrained(tmp_path / "bert")
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(Unsupported, match="bert"):
        SpeechEncoder.load(tmp_path / "bert")
    model.save_pretrained(tmp_path / "deeper")
    Wav2Vec2Config(**{**TINY, "num_hidden_layers": 3}).save_pretrained(tmp_path / "deeper")
    with pytest.raises(BadInput, match="lack"):
        SpeechEncoder.load(tmp_path / "deeper")
