"""A render over stages of this process: what TalkingHead gives, whatever rate and size; read by, lost and stopped."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput, NotFound, Unavailable
from ifmdm_core.media.audio import Audio, audio_from_samples
from ifmdm_core.media.gop import encode_gop
from ifmdm_core.motion.resample import resample_motion
from ifmdm_core.talking_head import TalkingHead
from serve.config import DecoderConfig, ServeConfig, StageConfig
from serve.flow import DECODING, UNREAD, Chunk, FlowRequest, render
from serve.flow_motion import MotionTrack
from serve.identities import IdentityStore
from serve.local_stages import LocalStages
from serve.messages import IdentityRef, ModelFacts, Stages

FAST = {"steps": 2, "face": "none"}
CHUNK = 8


def speech(seconds: float, rate: int = 16_000) -> Audio:
    time = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(1).standard_normal(len(time))
    return audio_from_samples((0.3 * np.sin(900 * time) * np.sin(9 * time) + 0.02 * noise).astype("f4"), rate)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (96, 80, 3), np.uint8)


@pytest.fixture(scope="module")
def lively_bundle(tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., Path]) -> Path:
    return make_bundle(tmp_path_factory.mktemp("flow") / "lively", seed=3)


@pytest.fixture(scope="module")
def head(lively_bundle: Path) -> TalkingHead:
    return TalkingHead.load(lively_bundle, device="cpu", dtype=torch.float32)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def stages(lively_bundle: Path, root: str, tmp_path_factory: pytest.TempPathFactory) -> LocalStages:
    alone = StageConfig(batch=1, batch_wait_s=0)
    decoder = DecoderConfig(batch=1, batch_wait_s=0, precision="fp32", chunk=CHUNK, crf=0)
    config = ServeConfig(root=root, model=str(lively_bundle), speech=alone, motion=alone, decoder=decoder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IFMDM_CACHE", str(tmp_path_factory.mktemp("cache")))
        return LocalStages(config)


def registered(root: str, head: TalkingHead, photo: np.ndarray, controls: RenderControls) -> IdentityRef:
    return IdentityStore(root).put("someone", head.open_portrait(photo, controls))


async def read(flow: AsyncGenerator[Chunk, None]) -> list[Chunk]:
    return [chunk async for chunk in flow]


def pictures(gop: bytes) -> np.ndarray:
    """Frames uint8 [n, H, W, 3] of a group."""
    with av.open(io.BytesIO(gop), format="nut") as container:
        frames = [f.reformat(format="rgb24", src_colorspace="ITU709") for f in container.decode(video=0)]
    return np.stack([frame.to_ndarray() for frame in frames])


@pytest.mark.parametrize(
    ("seconds", "options"),
    [
        (3.3, {}),
        (11.4, {"seed": 3, "guidance": 1.0}),
        (2.1, {"fps": 30, "pose": "evolve"}),
        (2.1, {"fps": 12, "size": 96, "sampler": "ddim"}),
        (0.5, {"face": (20, 30, 24, 24), "paste_back": True}),
        (0.1, {}),
    ],
)
def test_it_renders_what_the_talking_head_renders(
    head: TalkingHead,
    stages: LocalStages,
    root: str,
    photo: np.ndarray,
    seconds: float,
    options: dict[str, Any],
) -> None:
    audio, controls = speech(seconds), RenderControls(**{**FAST, **options})
    identity = registered(root, head, photo, controls)
    chunks = asyncio.run(read(render(stages, FlowRequest(identity, audio, controls))))

    total = audio.num_frames(controls.fps)
    assert [chunk.first_frame for chunk in chunks] == list(range(0, total, CHUNK))
    assert [chunk.frames for chunk in chunks[:-1]] == [CHUNK] * (len(chunks) - 1)
    assert sum(chunk.frames for chunk in chunks) == total

    _, hint = head.identity(head.open_portrait(photo, controls))
    windows = head.motion(head.speech(audio.samples), hint, controls, max(1, audio.num_frames(25)))
    expected = torch.cat(list(resample_motion(windows, total, controls.fps))).numpy()
    motion = np.concatenate([chunk.motion for chunk in chunks])
    assert motion.std(0).max() > 1e-3, "these networks move"
    assert np.abs(motion - expected).max() < 1e-4

    model = head.motion_sampler.generator
    opening = expected @ model.lip_map[0].numpy() + float(model.lip_bias[0])
    assert np.allclose(np.concatenate([chunk.opening for chunk in chunks]), opening, atol=1e-3)

    frames = np.stack(list(head.render(photo, audio, controls)))
    for chunk in chunks:
        span = frames[chunk.first_frame : chunk.first_frame + chunk.frames]
        shown, encoded = pictures(chunk.gop), pictures(encode_gop(span, controls.fps, crf=0))
        assert shown.shape == span.shape
        assert np.abs(shown.astype(int) - encoded).max() <= 4, (
            "differences of 1 in three colours, and rounding"
        )


def test_frames_before_encoding_are_the_talking_heads_within_one(
    head: TalkingHead, stages: LocalStages, root: str, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted: list[np.ndarray] = []

    def kept(frames: np.ndarray, fps: int, crf: int) -> bytes:
        painted.append(frames)
        return b"gop"

    monkeypatch.setattr("serve.frame_decoder.encode_gop", kept)
    audio, controls = speech(2.6), RenderControls(**FAST, seed=4, size=96)
    request = FlowRequest(registered(root, head, photo, controls), audio, controls)

    async def in_order() -> None:
        async for _ in render(_OneByOne(stages), request):
            pass

    asyncio.run(in_order())
    frames = np.concatenate(painted)
    expected = np.stack(list(head.render(photo, audio, controls)))
    assert frames.shape == expected.shape
    assert np.abs(frames.astype(int) - expected).max() <= 1


def test_the_same_request_gives_the_same_bytes_and_another_seed_does_not(
    head: TalkingHead, stages: LocalStages, root: str, photo: np.ndarray
) -> None:
    identity = registered(root, head, photo, RenderControls(**FAST))

    def gops(seed: int) -> list[bytes]:
        request = FlowRequest(identity, speech(1.0), RenderControls(**FAST, seed=seed))
        return [chunk.gop for chunk in asyncio.run(read(render(stages, request)))]

    assert gops(1) == gops(1) != gops(2)


class _Around:
    """Stages with something around every call."""

    def __init__(self, stages: Stages) -> None:
        self.facts: ModelFacts = stages.facts
        self._stages = stages

    async def _call(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        return await call()

    async def encode(self, samples: Any) -> Any:
        return await self._call("encode", lambda: self._stages.encode(samples))

    async def sample(self, call: Any) -> Any:
        return await self._call("sample", lambda: self._stages.sample(call))

    async def identify(self, identity: Any) -> Any:
        return await self._call("identify", lambda: self._stages.identify(identity))

    async def decode(self, call: Any) -> Any:
        return await self._call("decode", lambda: self._stages.decode(call))


class _OneByOne(_Around):
    def __init__(self, stages: Stages) -> None:
        super().__init__(stages)
        self._turn = asyncio.Lock()

    async def _call(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        async with self._turn:
            return await call()


class _Counted(_Around):
    """Counts calls that began, that are under way, and that were cancelled."""

    def __init__(self, stages: Stages) -> None:
        super().__init__(stages)
        self.begun = {"encode": 0, "sample": 0, "identify": 0, "decode": 0}
        self.under_way = dict(self.begun)
        self.most = dict(self.begun)

    async def _call(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        self.begun[name] += 1
        self.under_way[name] += 1
        self.most[name] = max(self.most[name], self.under_way[name])
        try:
            return await call()
        finally:
            self.under_way[name] -= 1


async def _settled(counted: _Counted) -> None:
    """Returns when no call is under way."""
    async with asyncio.timeout(120):
        while any(counted.under_way.values()):
            await asyncio.sleep(0.01)


@pytest.fixture
def long_request(head: TalkingHead, root: str, photo: np.ndarray) -> FlowRequest:
    """60 s: 1500 frames, 188 chunks, 42 windows of motion, 8 of speech."""
    controls = RenderControls(**FAST)
    return FlowRequest(registered(root, head, photo, controls), speech(60.0), controls)


def test_a_reader_that_stops_stops_the_work(stages: LocalStages, long_request: FlowRequest) -> None:
    counted = _Counted(stages)

    async def run() -> None:
        flow = render(counted, long_request)
        for _ in range(3):
            await anext(flow)
        await _settled(counted)
        begun = dict(counted.begun)
        assert begun["decode"] <= 3 + DECODING
        assert begun["sample"] <= 2
        assert begun["encode"] == 1
        for _ in range(5):
            await asyncio.sleep(0)
        assert counted.begun == begun, "nothing begins while nobody reads"
        for _ in range(20):
            chunk = await anext(flow)
        await _settled(counted)
        assert counted.begun["decode"] <= 23 + DECODING
        # A window of motion fills up to 6 chunks; the next is asked for when at most UNREAD are left.
        assert counted.begun["sample"] <= 2 + (chunk.first_frame + CHUNK * (1 + UNREAD)) // 36
        await flow.aclose()

    asyncio.run(run())
    assert counted.most == {"encode": 1, "sample": 1, "identify": 1, "decode": DECODING}


def test_closing_cancels_what_is_under_way(stages: LocalStages, long_request: FlowRequest) -> None:
    counted = _Counted(stages)

    async def run() -> None:
        flow = render(counted, long_request)
        await anext(flow)
        await flow.aclose()
        assert not any(counted.under_way.values())
        begun = dict(counted.begun)
        await asyncio.sleep(0.05)
        assert counted.begun == begun
        assert begun["decode"] <= 1 + DECODING

        reading = asyncio.create_task(read(render(counted, long_request)))
        while counted.begun["sample"] == begun["sample"]:
            await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert not any(counted.under_way.values())
        assert asyncio.all_tasks() - {asyncio.current_task()} == stages_own(asyncio.all_tasks())

    def stages_own(tasks: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
        """A call on its thread cannot be interrupted: its stage waits for it."""
        return {task for task in tasks if "Batches" in repr(task.get_coro())}

    asyncio.run(run())


class _Unreliable(_Around):
    """Every call is done twice, and answers arrive in any order."""

    def __init__(self, stages: Stages) -> None:
        super().__init__(stages)
        self._random = random.Random(4)

    async def _call(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        await call()
        await asyncio.sleep(0.02 * self._random.random())
        return await call()


def test_calls_made_again_elsewhere_change_nothing(
    head: TalkingHead, stages: LocalStages, root: str, photo: np.ndarray
) -> None:
    controls = RenderControls(**FAST, fps=30)
    request = FlowRequest(registered(root, head, photo, controls), speech(4.0), controls)
    plain = asyncio.run(read(render(stages, request)))
    again = asyncio.run(read(render(_Unreliable(stages), request)))
    assert [chunk.gop for chunk in again] == [chunk.gop for chunk in plain]
    assert all(np.array_equal(a.motion, b.motion) for a, b in zip(plain, again, strict=True))


@pytest.mark.parametrize("options", [{}, {"fps": 30}, {"fps": 12, "seed": 5}])
def test_with_the_motion_of_an_earlier_render_only_the_decoder_is_asked(
    head: TalkingHead, stages: LocalStages, root: str, photo: np.ndarray, options: dict[str, Any]
) -> None:
    controls = RenderControls(**FAST, **options)
    request = FlowRequest(registered(root, head, photo, controls), speech(4.1), controls)
    tracks: list[MotionTrack] = []
    plain = asyncio.run(read(render(stages, request)))
    told = asyncio.run(read(render(stages, request, tracks.append)))
    (track,) = tracks
    assert np.array_equal(track.motion, np.concatenate([chunk.motion for chunk in plain]))
    assert np.array_equal(track.opening, np.concatenate([chunk.opening for chunk in plain]))

    counted = _Counted(stages)
    resumed = asyncio.run(read(render(counted, replace(request, motion=track))))
    assert counted.begun == {"encode": 0, "sample": 0, "identify": 0, "decode": len(plain)}
    for again in (told, resumed):
        assert [(c.first_frame, c.gop) for c in again] == [(c.first_frame, c.gop) for c in plain]
        assert all(np.array_equal(a.motion, b.motion) for a, b in zip(plain, again, strict=True))


def test_who_wants_to_know_the_motion_gets_it_long_before_the_frames(
    stages: LocalStages, long_request: FlowRequest
) -> None:
    class Held(_Around):
        """No frames before the motion is known."""

        async def _call(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
            if name == "decode":
                await known.wait()
            return await call()

    known = asyncio.Event()

    async def run() -> None:
        flow = render(Held(stages), long_request, lambda _: known.set())
        await anext(flow)
        await flow.aclose()

    asyncio.run(run())


def test_motion_of_another_length_is_a_mistake(stages: LocalStages, long_request: FlowRequest) -> None:
    track = MotionTrack(np.zeros((3, 20), np.float32), np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="3 frames for a video of 1500"):
        asyncio.run(read(render(stages, replace(long_request, motion=track))))


class _Broken(_Around):
    def __init__(self, stages: Stages, name: str, after: int) -> None:
        super().__init__(stages)
        self._name, self._left = name, after

    async def _call(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if name == self._name:
            self._left -= 1
            if self._left < 0:
                raise Unavailable(f"{name} is gone", fix="try again")
        return await call()


@pytest.mark.parametrize(
    ("name", "after", "chunks"), [("identify", 0, 0), ("encode", 0, 0), ("sample", 1, 1), ("decode", 4, 4)]
)
def test_what_a_stage_raises_comes_out_and_nothing_is_left(
    stages: LocalStages, long_request: FlowRequest, name: str, after: int, chunks: int
) -> None:
    counted = _Counted(_Broken(stages, name, after))
    read_so_far: list[Chunk] = []

    async def run() -> None:
        async for chunk in render(counted, long_request):
            read_so_far.append(chunk)

    with pytest.raises(Unavailable, match=f"{name} is gone"):
        asyncio.run(run())
    assert chunks <= len(read_so_far) <= 6
    assert not any(counted.under_way.values())


def test_what_cannot_be_rendered(
    head: TalkingHead, stages: LocalStages, root: str, photo: np.ndarray
) -> None:
    controls = RenderControls(**FAST, fps=1)
    identity = registered(root, head, photo, controls)
    with pytest.raises(BadInput, match="1 fps"):
        asyncio.run(read(render(stages, FlowRequest(identity, speech(0.3), controls))))
    stranger = IdentityRef("somebody-else", identity.digest)
    with pytest.raises(NotFound):
        asyncio.run(read(render(stages, FlowRequest(stranger, speech(1.5), controls))))
