"""Features of clips: names, alignment, holes, and that neither timing nor a broken neighbour changes a value."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from ifmdm_core.bundle import DEMO, load_bundle
from ifmdm_core.media.clip_codec import encode_clip, encode_sound
from pipelines.features.encoders import (
    MotionFeatures,
    SpeechFeatures,
    load_encoder,
    motion_identity,
    speech_identity,
)


def clip(seed: int, count: int, side: int = 96) -> bytes:
    """A patch of smooth noise that slides."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((1, 3, 12, 12), np.float32))
    wide = torch.nn.functional.interpolate(coarse, (side, side + count), mode="bicubic")[0]
    picture = (wide.permute(1, 2, 0).clamp(0, 1) * 255).byte().numpy()
    return encode_clip([np.ascontiguousarray(picture[:, k : k + side]) for k in range(count)])


def sound(seed: int, frames: int) -> bytes:
    return encode_sound((np.random.default_rng(seed).standard_normal(frames * 640) * 0.05).astype(np.float32))


@pytest.fixture(scope="module")
def motion() -> MotionFeatures:
    return MotionFeatures.from_bundle("demo", batch=4)


@pytest.fixture(scope="module")
def speech() -> SpeechFeatures:
    return SpeechFeatures.from_reference("demo")


LENGTHS = [9, 60, 5]


def test_motion_is_what_the_encoder_gives_for_each_frame(motion: MotionFeatures):
    from ifmdm_core.media.clip_codec import decode_clip

    size = load_bundle("demo").autoencoder().config.size
    videos = [clip(k, n, size) for k, n in enumerate(LENGTHS)]
    encoded = motion.encode(videos, LENGTHS)
    assert not encoded.faults
    for video, count, value in zip(videos, LENGTHS, encoded.values, strict=True):
        assert value.shape == (count, 20)
        assert value.dtype == np.float32
        pictures = torch.from_numpy(decode_clip(video)).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            alone = load_bundle("demo").autoencoder().encode_motion(pictures).numpy()
        np.testing.assert_allclose(value, alone, atol=2e-4)


def test_motion_repeats_bit_for_bit_with_any_number_of_decoders(motion: MotionFeatures):
    videos = [clip(k, n) for k, n in enumerate(LENGTHS)]
    first = motion.encode(videos, LENGTHS).values
    other = MotionFeatures.from_bundle("demo", batch=4, decoders=3).encode(iter(videos), iter(LENGTHS)).values
    assert all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_values_do_not_depend_on_the_threads_torch_may_use(motion: MotionFeatures, speech: SpeechFeatures):
    videos, sounds = [clip(k, n) for k, n in enumerate(LENGTHS)], [sound(k, n) for k, n in enumerate(LENGTHS)]
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(motion.encode(videos, LENGTHS).values + speech.encode(sounds, LENGTHS).values)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


def test_a_broken_clip_is_a_hole_and_its_neighbours_keep_their_values(motion: MotionFeatures):
    videos = [clip(k, n) for k, n in enumerate(LENGTHS)]
    whole = motion.encode(videos, LENGTHS).values
    videos[1] = videos[1][: len(videos[1]) // 2]
    encoded = motion.encode(videos, LENGTHS)
    assert [value is None for value in encoded.values] == [False, True, False]
    assert [(f.row, f.reason) for f in encoded.faults] == [(1, "video undecodable")]
    for k in (0, 2):  # a picture's place in a batch changes nothing at all
        assert np.array_equal(encoded.values[k], whole[k])


def test_a_clip_with_fewer_frames_than_its_row_says_is_a_hole(motion: MotionFeatures):
    encoded = motion.encode([clip(0, 8), clip(1, 8)], [9, 8])
    assert [value is None for value in encoded.values] == [True, False]
    assert encoded.faults[0].row == 0


def test_features_that_are_not_finite_are_a_hole():
    features = MotionFeatures.from_bundle("demo", batch=4)
    with torch.no_grad():
        for weight in features._model.motion_encoder.parameters():
            weight.fill_(float("nan"))
    encoded = features.encode([clip(0, 4)], [4])
    assert encoded.values == [None]
    assert encoded.faults[0].reason == "features not finite"


def test_speech_of_a_clip_depends_on_that_clip_alone(speech: SpeechFeatures):
    sounds = [sound(0, 30), None, b"not flac", sound(1, 25)]
    encoded = speech.encode(sounds, [30, 30, 30, 25])
    assert [None if v is None else v.shape for v in encoded.values] == [
        (30, speech.identity.dim), None, None, (25, speech.identity.dim)]  # fmt: skip
    assert encoded.values[0].dtype == np.float16
    assert [(f.row, f.reason) for f in encoded.faults] == [(2, "sound undecodable")]
    alone = speech.encode([sounds[3]], [25]).values[0]
    assert np.array_equal(alone, encoded.values[3])


def test_rows_of_a_shard_at_its_own_frame_rate(motion: MotionFeatures, speech: SpeechFeatures):
    frames, audio = 20, sound(3, 25)
    table = pa.table(
        {
            "num_frames": [9, frames, 9], "span": [[0.0, 0.36], [1.0, 2.0], [3.0, 3.36]],
            "video": [clip(0, 9), clip(1, frames), b"broken"], "audio": [None, audio, None],
        }
    )  # fmt: skip
    encoded = speech.encode_rows(table, [1, 2])
    assert np.array_equal(encoded.values[0], speech.encode([audio], [frames], fps=20).values[0])
    assert encoded.values[1] is None
    assert not encoded.faults
    encoded = motion.encode_rows(table, [2, 1])
    assert encoded.values[0] is None
    assert encoded.values[1].shape == (frames, 20)
    assert [fault.row for fault in encoded.faults] == [2]


def test_encoders_by_kind(motion: MotionFeatures, speech: SpeechFeatures):
    assert load_encoder("motion", "demo").identity == motion.identity
    assert load_encoder("speech", "demo").identity == speech.identity


def test_an_encoder_is_known_without_keeping_it(motion: MotionFeatures, speech: SpeechFeatures):
    record = load_bundle("demo").record
    assert motion_identity("demo") == motion.identity == motion_identity(DEMO)
    assert motion.identity.encoder == record.encoder
    assert speech_identity("demo") == speech.identity
    assert motion_identity(DEMO / "autoencoder.safetensors").digest("g") == motion.identity.digest("g")
    assert speech_identity(DEMO / "speech").digest("g") == speech.identity.digest("g")


def test_other_layers_are_another_set_and_the_last_one_by_either_number_is_the_same(speech: SpeechFeatures):
    depth = load_bundle("demo").speech_encoder().model.config.num_hidden_layers
    assert speech_identity("demo", (depth,)).digest("g") == speech.identity.digest("g")
    two = speech_identity("demo", (0, -1))
    assert two.dim == 2 * speech.identity.dim
    assert two.digest("g") != speech.identity.digest("g")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_features_of_the_cpu(motion: MotionFeatures, speech: SpeechFeatures):
    videos = [clip(k, n) for k, n in enumerate(LENGTHS)]
    on_gpu = MotionFeatures.from_bundle("demo", "cuda", batch=64, decoders=4).encode(videos, LENGTHS)
    for here, there in zip(motion.encode(videos, LENGTHS).values, on_gpu.values, strict=True):
        np.testing.assert_allclose(here, there, atol=2e-3)
    sounds = [sound(k, n) for k, n in enumerate(LENGTHS)]
    heard = SpeechFeatures.from_reference("demo", device="cuda").encode(sounds, LENGTHS)
    for here, there in zip(speech.encode(sounds, LENGTHS).values, heard.values, strict=True):
        np.testing.assert_allclose(here, there, atol=2e-2)
