"""One render of a task, phase by phase: inputs, their decoding, motion and frames, the file."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.consent import Permission
from ifmdm_core.errors import BadInput
from ifmdm_core.media.audio import Audio
from ifmdm_core.media.fragments import finished_mp4
from ifmdm_core.provenance import sha256_of_file, synthetic_tags
from jobs.clock import Clock
from jobs.rendering.attempt_log import LOG, AttemptLog, put_quietly
from jobs.rendering.bundles import Bundles
from jobs.rendering.contract import Halt, Rendered, Report, Task
from jobs.rendering.counted_stages import CountedStages
from jobs.rendering.file_kinds import check_audio, check_portrait
from jobs.rendering.inputs import fetch, name_of, named
from jobs.rendering.loop_thread import LoopThread
from jobs.rendering.metrics import METRICS, AttemptMetrics, Stopwatch
from jobs.rendering.stored_motion import MotionOrigin, find_motion, store_motion
from serve.config import Limits
from serve.finished import GopSpool
from serve.flow import FlowRequest, render
from serve.flow_motion import MotionTrack
from serve.identities import IdentityStore
from serve.intake import Intake
from serve.messages import IdentityRef, Stages
from serve.portrait_check import PortraitCheck
from serve.signing import Signer

Value = TypeVar("Value")


@dataclass(frozen=True)
class Tools:
    """What renders share."""

    loop: LoopThread
    bundles: Bundles
    intake: Intake
    identities: IdentityStore
    check: PortraitCheck
    signer: Signer
    limits: Limits
    clock: Clock


@dataclass(frozen=True)
class _Inputs:
    """The inputs, decoded."""

    audio: Audio
    audio_sha256: str
    identity: IdentityRef
    note: str


class OneRender:
    """Renders one task into `room`, a folder of its own, which its caller removes."""

    def __init__(self, tools: Tools, task: Task, report: Report, room: Path) -> None:
        self._tools, self._task, self._report, self._room = tools, task, report, room
        self._metrics = AttemptMetrics(fps=task.controls.fps)
        self._watch = Stopwatch(self._metrics, tools.clock)
        self._log = AttemptLog(tools.clock)
        self._storing: Future[None] | None = None
        self._sha256 = ""
        """Of the portrait's file."""

    def run(self) -> Rendered:
        """Renders; the log and the metrics are in the store afterwards. Raises as `contract.Renderer.render`."""
        outcome = "rendered"
        try:
            return self._rendered()
        except BaseException as error:
            if self._storing is not None:
                self._storing.result()  # raises nothing
            error.busy_s = self._metrics.busy_s  # type: ignore[attr-defined]  # see `contract.spent`
            if isinstance(error, Halt):
                outcome = "halted"
                self._log.note(outcome, frames=self._metrics.frames_decoded)
            else:
                outcome = type(error).__name__
                self._log.error(error)
            raise
        finally:
            self._watch.stop(outcome)
            storage, folder = self._task.storage, self._task.folder
            put_quietly(storage, f"{folder}/{LOG}", self._log.text())
            put_quietly(storage, f"{folder}/{METRICS}", self._metrics.model_dump_json(indent=2))

    def _rendered(self) -> Rendered:
        task, metrics, tools = self._task, self._metrics, self._tools
        self._log.note("began", epoch=task.epoch, bundle=task.bundle_sha256)
        self._tick()
        tools.limits.check(task.controls)
        with self._watch.phase("download"):
            self._download()
        with ExitStack() as held:
            leased, gops = held.enter_context(ExitStack()), held.enter_context(GopSpool())
            with self._watch.phase("model"):
                lease = tools.bundles.lease(task.bundle_uri, task.bundle_sha256)
                stages = leased.enter_context(tools.loop.entered(lease, self._tick))
            with self._watch.phase("open"):
                inputs = self._opened(stages.facts.size, held)
            metrics.frames = inputs.audio.num_frames(task.controls.fps)
            self._tick()
            with self._watch.phase("frames"):
                self._frames(CountedStages(stages, metrics), inputs, gops)
            leased.close()  # whoever waits for the model need not wait for the file
            path = self._file(stages.facts.name, inputs, gops)
        sha256 = self._call(lambda: sha256_of_file(path))
        return Rendered(
            path=path, sha256=sha256, size=path.stat().st_size, frames=metrics.frames, fps=metrics.fps,
            seconds=self._watch.seconds, busy_s=metrics.busy_s, resumed_motion=metrics.resumed_motion,
            frames_decoded=metrics.frames_decoded, note=inputs.note,
        )  # fmt: skip

    def _download(self) -> None:
        task, limits = self._task, self._tools.limits
        portrait, audio = self._room / "portrait", self._room / "audio"
        sizes = {
            "portrait": self._call(
                lambda: fetch(task.portrait, "portrait", limits.portrait_mb, check_portrait, portrait)
            ),
            "audio": self._call(lambda: fetch(task.audio, "audio", limits.audio_mb, check_audio, audio)),
        }
        self._sha256 = self._call(lambda: sha256_of_file(portrait))
        self._log.note("downloaded", **sizes, portrait_sha256=self._sha256)
        with named("portrait", task.portrait):
            name = name_of("portrait", task.portrait)
            self._call(lambda: self._tools.check.file(name, self._sha256))

    def _opened(self, size: int, held: ExitStack) -> _Inputs:
        """The inputs decoded, the portrait aligned for a model of `size` pixels and where the stages find it.

        The sound lives as long as `held`.
        """
        task, intake, path = self._task, self._tools.intake, self._room / "audio"
        with named("audio", task.audio):
            name = name_of("audio", task.audio)
            audio = self._run(intake.audio(path, self._tools.limits.audio_s, name))
            held.callback(audio.close)
            if audio.num_frames(task.controls.fps) == 0:
                raise BadInput(f"too short for one frame at {task.controls.fps} fps", fix="give longer audio")
            sha256 = self._call(lambda: sha256_of_file(path))
        with named("portrait", task.portrait):
            name = name_of("portrait", task.portrait)
            portrait = self._run(intake.portrait(self._room / "portrait", task.controls, size, name))
            self._call(lambda: self._permit(name, portrait.crop))
        identity = self._call(lambda: self._tools.identities.put(task.tenant, portrait))
        self._log.note(
            "opened", audio_s=audio.duration, audio=sha256, portrait=identity.digest, note=portrait.note
        )
        return _Inputs(audio, sha256, identity, portrait.note)

    def _permit(self, name: str, crop: NDArray[np.uint8]) -> None:
        """Raises Forbidden for a face that may not be animated."""
        task = self._task
        permission = Permission(consent=task.consent)
        self._tools.check.face(name, crop, task.tenant, permission, sha256=self._sha256, job=task.id)

    def _frames(self, stages: Stages, inputs: _Inputs, gops: GopSpool) -> None:
        """All frames, as groups of pictures; the motion is kept as soon as it is known."""
        task, metrics, tools = self._task, self._metrics, self._tools
        origin = MotionOrigin(task.bundle_sha256, task.controls, inputs.identity.digest, inputs.audio_sha256)
        track = self._call(lambda: find_motion(task.storage, task.earlier, origin, metrics.frames, self._log))
        metrics.resumed_motion = track is not None
        if track is not None:
            self._log.note("motion taken over")

        def keep(motion: MotionTrack) -> None:
            self._log.note("motion known")
            self._storing = tools.loop.begin(
                lambda: store_motion(task.storage, task.folder, origin, motion, self._log)
            )

        request = FlowRequest(inputs.identity, inputs.audio, task.controls, track)
        with closing(tools.loop.each(render(stages, request, keep), self._tick)) as chunks:
            for chunk in chunks:
                gops.add(chunk.gop)
                if metrics.first_chunk_s is None:
                    metrics.first_chunk_s = round(self._watch.seconds, 6)
                    self._log.note("first chunk", frames=chunk.frames)
                metrics.frames_decoded += chunk.frames
                self._tick()
        self._log.note("decoded", frames=metrics.frames_decoded)
        if self._storing is not None:
            tools.loop.join(self._storing, self._tick)

    def _file(self, model: str, inputs: _Inputs, gops: GopSpool) -> Path:
        """The signed file."""
        task, plain, signed = self._task, self._room / "plain.mp4", self._room / f"{self._task.id}.mp4"
        tags = synthetic_tags(
            model=model,
            model_sha256=task.bundle_sha256,
            inputs={"portrait": inputs.identity.digest, "audio": inputs.audio_sha256},
            controls=task.controls.model_dump(mode="json"),
            consent=task.consent,
        )
        with self._watch.phase("mux"):
            self._call(lambda: finished_mp4(gops, inputs.audio, task.controls.fps, tags, plain))
        self._log.note("muxed", size=plain.stat().st_size)
        with self._watch.phase("sign"):
            self._call(lambda: self._tools.signer.sign(plain, signed))
        plain.unlink()
        self._log.note("signed", size=signed.stat().st_size)
        return signed

    def _tick(self) -> None:
        self._report(self._metrics.frames_decoded, self._metrics.frames)

    def _call(self, work: Callable[[], Value]) -> Value:
        return self._tools.loop.call(work, self._tick)

    def _run(self, work: Coroutine[Any, Any, Value]) -> Value:
        return self._tools.loop.run(work, self._tick)
