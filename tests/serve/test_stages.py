"""Stages as classes in this process: what shares a batch gets what it would get alone, and nonsense is refused."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from ifmdm_core.bundle import load_bundle
from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput, Conflict, NotFound
from ifmdm_core.frame_decoder import FrameDecoder
from ifmdm_core.portrait import open_portrait
from serve.config import DecoderConfig, StageConfig
from serve.frame_decoder import FrameDecoderStage
from serve.identities import IdentityStore
from serve.messages import ChunkCall, IdentityRef, Reply, WindowCall
from serve.motion_sampler import MotionSamplerStage
from serve.replica import BundleRef
from serve.speech_encoder import SpeechEncoderStage

ALONE, TOGETHER = {"batch": 1, "batch_wait_s": 0.0}, {"batch": 4, "batch_wait_s": 30.0}


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> BundleRef:
    return BundleRef(str(tiny_bundle), load_bundle(tiny_bundle).digest)


@pytest.fixture(scope="module")
def identities(portrait: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[IdentityRef]]:
    """A root with two portraits; the second is pasted back."""
    root = str(tmp_path_factory.mktemp("root"))
    store = IdentityStore(root)
    opened = [
        open_portrait(portrait, RenderControls(), 64),
        open_portrait(portrait, RenderControls(paste_back=True), 64),
    ]
    return root, [store.put("acme", each) for each in opened]


def _all(answer: Callable[[object], Awaitable[Reply[object]]], calls: list[object]) -> list[Reply[object]]:
    async def main() -> list[Reply[object]]:
        return await asyncio.gather(*(answer(call) for call in calls))

    return asyncio.run(main())


def _each(answer: Callable[[object], Awaitable[Reply[object]]], calls: list[object]) -> list[Reply[object]]:
    return [_all(answer, [call])[0] for call in calls]


def _pictures(gop: bytes) -> np.ndarray:
    with av.open(io.BytesIO(gop)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_speech_windows_of_one_length_share_a_batch(bundle: BundleRef) -> None:
    rng = np.random.default_rng(0)
    calls = [rng.normal(0, 0.1, 16_000).astype(np.float32) for _ in range(4)]
    together = _all(SpeechEncoderStage(bundle, StageConfig(**TOGETHER)).encode, calls)
    alone = _each(SpeechEncoderStage(bundle, StageConfig(**ALONE)).encode, calls)
    assert [reply.batch for reply in together] == [4] * 4
    assert [reply.batch for reply in alone] == [1] * 4
    for a, b in zip(together, alone, strict=True):
        assert a.value.shape == (49, 16)
        np.testing.assert_allclose(a.value, b.value, atol=1e-4)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(0, np.float32),
        np.zeros((2, 8000), np.float32),
        np.full(8000, np.nan, np.float32),
        np.zeros(10**6),
    ],
)
def test_samples_that_are_no_window_are_refused(bundle: BundleRef, samples: np.ndarray) -> None:
    with pytest.raises(BadInput, match="samples"):
        _all(SpeechEncoderStage(bundle, StageConfig()).encode, [samples])


def test_windows_of_motion_share_a_batch_when_their_denoising_is_alike(bundle: BundleRef) -> None:
    rng = np.random.default_rng(1)

    def call(seed: int, frames: int = 40, context: int = 0, **controls: object) -> WindowCall:
        return WindowCall(
            speech=rng.normal(size=(context + frames, 16)).astype(np.float32),
            hint=rng.uniform(-0.5, 0.5, 20).astype(np.float32),
            index=seed,
            context=rng.uniform(-0.5, 0.5, (context, 20)).astype(np.float32) if context else None,
            controls=RenderControls(seed=seed, **controls),
        )

    # Lengths, contexts, seeds, poses and scales differ; what is 1 (no guidance at all) does not.
    calls = [
        call(1), call(2, 30, pose="hold", guidance=3.0), call(3, 40, 10, intensity=0.8), call(4, 5, 10, guidance=1.5),
    ]  # fmt: skip
    others = [
        call(5, steps=3),
        call(6, sampler="ddim"),
        call(7, guidance=1.0),
        call(8, statistics_guidance=2.0),
    ]
    stage = MotionSamplerStage(bundle, StageConfig(**TOGETHER))
    together = _all(stage.sample, calls)
    assert [reply.batch for reply in together] == [4] * 4
    stage = MotionSamplerStage(bundle, StageConfig(batch=4, batch_wait_s=0.0))
    apart = _all(stage.sample, others)
    assert [reply.batch for reply in apart] == [1] * 4
    stage = MotionSamplerStage(bundle, StageConfig(**ALONE))
    alone = _each(stage.sample, calls)
    for a, b, asked in zip(together, alone, calls, strict=True):
        new = len(asked.speech) - (0 if asked.context is None else len(asked.context))
        assert a.value.motion.shape == (new, 20)
        assert a.value.opening.shape == (new,)
        np.testing.assert_allclose(a.value.motion, b.value.motion, atol=1e-4)
        np.testing.assert_allclose(a.value.opening, b.value.opening, atol=1e-3)
    assert np.abs(together[0].value.motion[:30] - together[1].value.motion).max() > 1e-2  # not all the same


def test_chunks_of_one_portrait_share_a_batch(
    bundle: BundleRef, identities: tuple[str, list[IdentityRef]]
) -> None:
    root, refs = identities
    rng = np.random.default_rng(2)

    def call(identity: IdentityRef, frames: int, size: int | None = None) -> ChunkCall:
        return ChunkCall(identity, 0, rng.uniform(-0.5, 0.5, (frames, 20)).astype(np.float32), 25, size)

    calls = [call(refs[0], 5), call(refs[0], 3), call(refs[0], 5, 128), call(refs[0], 1)]
    together = _all(FrameDecoderStage(bundle, DecoderConfig(**TOGETHER, crf=0), root).decode, calls)
    alone = _each(FrameDecoderStage(bundle, DecoderConfig(**ALONE, crf=0), root).decode, calls)
    assert [reply.batch for reply in together] == [4] * 4
    for a, b, asked in zip(together, alone, calls, strict=True):
        pictures = _pictures(a.value)
        side = asked.size or 64
        assert pictures.shape == (len(asked.motion), side, side, 3)
        # 1/255 in the network's frames; a step of luma or chroma more after 4:2:0 at crf 0.
        assert np.abs(pictures.astype(int) - _pictures(b.value)).max() <= 4
    stage = FrameDecoderStage(bundle, DecoderConfig(batch=4, batch_wait_s=0.0), root)
    mixed = _all(stage.decode, [call(refs[0], 2), call(refs[1], 2)])
    assert [reply.batch for reply in mixed] == [1, 1]
    assert _pictures(mixed[1].value).shape == (2, 512, 512, 3)


def test_the_decoder_has_a_portrait_at_hand_after_the_first_call(
    bundle: BundleRef, identities: tuple[str, list[IdentityRef]]
) -> None:
    root, refs = identities
    stage = FrameDecoderStage(bundle, DecoderConfig(batch_wait_s=0.0), root)
    first, second = _each(stage.identify, [refs[0]] * 2)
    assert (first.hit, second.hit) == (False, True)
    np.testing.assert_array_equal(first.value, second.value)
    assert first.value.shape == (20,)


def test_portraits_that_are_not_there_or_do_not_fit_are_refused(
    bundle: BundleRef, identities: tuple[str, list[IdentityRef]], portrait: Path
) -> None:
    root, refs = identities
    stage = FrameDecoderStage(bundle, DecoderConfig(), root)
    with pytest.raises(NotFound):
        _all(stage.identify, [IdentityRef("globex", refs[0].digest)])
    larger = IdentityStore(root).put("acme", open_portrait(portrait, RenderControls(), 128))
    with pytest.raises(Conflict, match="128 pixels, this one has 64"):
        _all(stage.identify, [larger])
    with pytest.raises(BadInput, match="motion of shape"):
        _all(stage.decode, [ChunkCall(refs[0], 0, np.zeros((0, 20), np.float32), 25, None)])


def test_a_replica_refuses_another_bundle_than_it_was_told(tiny_bundle: Path) -> None:
    with pytest.raises(Conflict, match="expected"):
        SpeechEncoderStage(BundleRef(str(tiny_bundle), "0" * 64), StageConfig())


def test_frames_are_the_same_alone_and_together_before_they_are_encoded(
    bundle: BundleRef, portrait: Path
) -> None:
    decoder = FrameDecoder.of(bundle.open())
    known = decoder.identity(open_portrait(portrait, RenderControls(), 64).crop)
    motion = torch.from_numpy(np.random.default_rng(3).uniform(-0.5, 0.5, (20, 20)).astype(np.float32))
    alone = np.concatenate([decoder.frames(known, part) for part in motion.split(5)])
    assert np.abs(decoder.frames(known, motion).astype(int) - alone).max() <= 1
