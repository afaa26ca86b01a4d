"""Stands in for the renderer: takes simulated time, reports, fails as scripted; every attempt makes other bytes."""

from __future__ import annotations

import contextlib
import hashlib
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ifmdm_core.errors import BadInput, NotFound, Unavailable
from jobs.rendering.contract import Rendered, Report, Task
from tests.crash.jobs.hub import Process

How = Literal["ok", "transient", "missing", "bad", "bug", "hang", "crawl"]
"""`hang`: no report for longer than a stall, then goes on. `crawl`: reports all the time, without getting further."""


@dataclass(frozen=True)
class Script:
    """What becomes of a job's attempts, the first one first; later ones go well."""

    frames: int
    frame_s: float
    attempts: tuple[How, ...] = ()


class SimRenderer:
    """One for all processes of a schedule.

    Args:
        scripts: by job id.
        stall_s: of the sweepers.
    """

    def __init__(self, scripts: dict[str, Script], stall_s: float) -> None:
        self.scripts, self._stall_s = scripts, stall_s
        self.begun: dict[str, int] = {}
        self.stood_still: set[str] = set()
        """Jobs of which an attempt hung or crawled: it may be taken away."""

    def of(self, process: Process) -> ProcessRenderer:
        """As that process has it."""
        return ProcessRenderer(self, process)

    def begin(self, id: str) -> How:
        """The next attempt's fate."""
        number = self.begun[id] = self.begun.get(id, 0) + 1
        fates = self.scripts[id].attempts
        return fates[number - 1] if number <= len(fates) else "ok"

    def stand_still(self, id: str, chance: random.Random) -> float:
        """Seconds for which an attempt does nothing."""
        self.stood_still.add(id)
        return self._stall_s * chance.uniform(0.5, 3.0)


class ProcessRenderer:
    """`jobs.rendering.contract.Renderer`."""

    def __init__(self, whole: SimRenderer, process: Process) -> None:
        self._whole, self._process = whole, process

    @contextlib.contextmanager
    def render(self, task: Task, report: Report) -> Iterator[Rendered]:
        clock, script = self._process.clock, self._whole.scripts[task.id]
        fate = self._whole.begin(task.id)
        begun = clock.monotonic()
        report(0, 0)
        fails_at = clock.chance.randrange(script.frames) if fate != "ok" else -1
        for frame in range(script.frames):
            report(frame, script.frames)
            clock.sleep(script.frame_s * clock.chance.uniform(0.5, 1.5))
            if frame == fails_at:
                self._go_wrong(task, fate, report, frame)
        report(script.frames, script.frames)
        # What no two attempts have in common shows whose bytes were published.
        nonce = f"{clock.chance.getrandbits(64):016x}"
        data = (
            f"{task.tenant}/{task.id} {task.epoch} {task.bundle_sha256} {self._process.name} {nonce}".encode()
        )
        with tempfile.TemporaryDirectory(prefix="ifmdm-sim-") as folder:
            path = Path(folder, "video.mp4")
            path.write_bytes(data)
            yield Rendered(
                path, hashlib.sha256(data).hexdigest(), len(data), script.frames, 25, clock.monotonic() - begun,
                {"decoder": round(clock.monotonic() - begun, 3)},
            )  # fmt: skip

    def _go_wrong(self, task: Task, fate: How, report: Report, frame: int) -> None:
        clock, chance = self._process.clock, self._process.clock.chance
        if fate == "transient":
            raise Unavailable("the decoders do not answer")
        if fate == "missing":
            raise NotFound(f"audio {task.audio.uri} does not exist")
        if fate == "bad":
            raise BadInput(f"portrait {task.portrait.uri} shows no face")
        if fate == "bug":
            raise ZeroDivisionError("a fault of ours")
        seconds = self._whole.stand_still(task.id, chance)
        if fate == "hang":
            clock.sleep(seconds)
        else:
            until = clock.monotonic() + seconds
            while clock.monotonic() < until:
                clock.sleep(1.0)
                report(frame, self._whole.scripts[task.id].frames)
