"""A job store with inputs in it, and attempts at rendering them: what the tests of the renderer work with."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import av
import numpy as np

from ifmdm_core.controls import RenderControls
from ifmdm_core.storage import Storage
from jobs.rendering.bundles import Bundles
from jobs.rendering.contract import Source, Task
from serve.messages import ModelFacts, Stages

FAST = RenderControls(steps=2, face="none")


def recording(seconds: float, seed: int = 0) -> bytes:
    """A WAV file of noise with the loudness of syllables."""
    count = int(16_000 * seconds)
    time = np.arange(count) / 16_000
    noise = np.random.default_rng(seed).normal(0, 0.1, count) * (0.5 + 0.5 * np.sin(8 * np.pi * time))
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes((np.clip(noise, -1, 1) * 32767).astype("<i2").tobytes())
    return file.getvalue()


def frames_of(path: Path) -> np.ndarray:
    """uint8 [n, H, W, 3] of a video."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@dataclass
class Place:
    """One store for jobs and inputs alike."""

    storage: Storage
    bundle: Path
    digest: str
    epochs: int = 0

    def source(self, key: str, data: bytes) -> Source:
        """An input, put there and pinned."""
        self.storage.put(key, data)
        item = self.storage.info(key)
        assert item is not None
        return Source(self.storage.root.join(key), item.etag, self.storage, key)

    def task(self, portrait: bytes, audio: bytes, controls: RenderControls = FAST, **changes: Any) -> Task:
        """A first attempt."""
        self.epochs += 1
        task = Task(
            tenant="acme", id="ab" * 16, epoch=self.epochs, portrait=self.source("in/ann.jpg", portrait),
            audio=self.source("in/ann.wav", audio), controls=controls, bundle_uri=str(self.bundle),
            bundle_sha256=self.digest, consent=None, storage=self.storage, folder=self.folder(self.epochs),
        )  # fmt: skip
        return replace(task, **changes)

    def again(self, task: Task, **changes: Any) -> Task:
        """The next attempt at the same job."""
        self.epochs += 1
        changes = {"earlier": (task.folder, *task.earlier), **changes}
        return replace(task, epoch=self.epochs, folder=self.folder(self.epochs), **changes)

    def folder(self, epoch: int) -> str:
        return f"attempts/acme/{'ab' * 16}/{epoch}"

    def motion_key(self, task: Task) -> str:
        return f"{task.folder}/motion-{self.digest[:8]}.arrow"

    def log(self, task: Task) -> list[dict[str, Any]]:
        """The lines of an attempt's log."""
        return [json.loads(line) for line in self.storage.get(f"{task.folder}/log.jsonl").splitlines()]

    def events(self, task: Task) -> list[str]:
        return [line["event"] for line in self.log(task)]

    def metrics(self, task: Task) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.storage.get(f"{task.folder}/metrics.json"))
        return found


@dataclass
class Reports:
    """A worker's callback: notes what it is told, and stops the render when `stop` says so, with `error`."""

    stop: Callable[[int, int], bool] = lambda done, total: False
    error: BaseException = field(default_factory=lambda: AssertionError("nobody said how"))
    told: list[tuple[int, int]] = field(default_factory=list)
    thread: threading.Thread = field(default_factory=threading.current_thread)

    def __call__(self, done: int, total: int) -> None:
        assert threading.current_thread() is self.thread, "in the thread that renders"
        self.told.append((done, total))
        if self.stop(done, total):
            raise self.error


class WatchedStages:
    """Stages that count their calls; `gate` is awaited before each."""

    def __init__(self, stages: Stages, calls: WatchedBundles) -> None:
        self.facts: ModelFacts = stages.facts
        self._stages, self._calls = stages, calls

    async def _counted(self, name: str, call: Callable[[Any], Awaitable[Any]], given: Any) -> Any:
        self._calls.begun[name] += 1
        self._calls.under_way += 1
        try:
            await self._calls.gate(name)
            return await call(given)
        finally:
            self._calls.under_way -= 1

    async def encode(self, samples: Any) -> Any:
        return await self._counted("encode", self._stages.encode, samples)

    async def sample(self, call: Any) -> Any:
        return await self._counted("sample", self._stages.sample, call)

    async def identify(self, identity: Any) -> Any:
        return await self._counted("identify", self._stages.identify, identity)

    async def decode(self, call: Any) -> Any:
        return await self._counted("decode", self._stages.decode, call)


class WatchedBundles:
    """`bundles`, with every call of a stage counted."""

    def __init__(self, bundles: Bundles) -> None:
        self._bundles = bundles
        self.leases = 0
        self.reset()

    def reset(self) -> None:
        self.begun = {"encode": 0, "sample": 0, "identify": 0, "decode": 0}
        self.under_way = 0
        self.gate: Callable[[str], Awaitable[None]] = _open

    async def open(self) -> None:
        await self._bundles.open()

    def serves(self, sha256: str) -> bool:
        return self._bundles.serves(sha256)

    @asynccontextmanager
    async def lease(self, uri: str, sha256: str) -> AsyncIterator[Stages]:
        async with self._bundles.lease(uri, sha256) as stages:
            self.leases += 1
            try:
                yield WatchedStages(stages, self)
            finally:
                self.leases -= 1

    async def close(self) -> None:
        await self._bundles.close()


async def _open(name: str) -> None:
    await asyncio.sleep(0)
