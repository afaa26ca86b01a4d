"""A job store on S3 behind a fault proxy, jobs in it, real workers at work on it, and what must have come of them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import re
import signal
import statistics
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import av

from ifmdm_core.errors import IfmdmError, Unavailable
from ifmdm_core.storage import S3Config, Storage, open_storage, s3_client
from infra.commands.jobs_work import WORKER
from jobs.client import JobClient
from jobs.heartbeat import read_beat
from jobs.names import JobRef, Running
from jobs.store import JobView
from tests.benchmarks.serve_clients import SAMPLES
from tests.crash.ray_nodes import RayNodes, command_of, descendants
from tests.fault_proxy import Answer, Delay, FaultProxy, Lose, Refuse
from tests.jobs.rendering.places import recording
from tests.jobs.whole.commands import WorkProcess, ifmdm
from tests.s3_server import S3Server

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}
TAKEOVER_S = 6.0
FPS = 25
SPEECH_S = (25.0, 60.0)
"""Seconds of speech of a job: with tiny networks a few seconds of work."""
FAULTS = (
    (Refuse(), ()), (Lose(), ("PUT", "DELETE", "POST")), (Answer(503), ()), (Delay(3.0), ()),
    (Answer(500, "InternalError"), ()),
)  # fmt: skip
"""Kinds of trouble and the methods they are for; each happens to a part of the requests while it lasts."""


@dataclass
class Loss:
    """A job whose worker was killed or stopped while it had it."""

    ref: JobRef
    seq: int
    """Of its claim."""
    at: float
    """When, seconds since 1970."""
    how: str
    """What was killed or stopped."""


@dataclass
class Figures:
    """What a run showed."""

    claimed_again_s: dict[str, list[float]] = field(default_factory=dict)
    """From a kill to the next claim of a job that was lost by it, by what was killed."""
    published_s: dict[str, list[float]] = field(default_factory=dict)
    """From a kill to its publication."""
    frames: int = 0
    """Of the videos."""
    frames_twice: int = 0
    """That were rendered for nothing, as far as heartbeats told of them."""
    claims: int = 0
    losses: int = 0
    released: int = 0
    failed_attempts: int = 0

    def told(self) -> dict[str, object]:
        """For a report."""
        found: dict[str, object] = {
            "claims": self.claims, "lost": self.losses, "released": self.released,
            "failed_attempts": self.failed_attempts, "frames": self.frames, "frames_twice": self.frames_twice,
        }  # fmt: skip
        for how in self.claimed_again_s:
            found[f"after_{how}"] = (
                f"claimed_{_span(self.claimed_again_s[how])}_s,published_{_span(self.published_s[how])}_s"
            )
        return found


class Room:
    """Everything a run needs; a context manager.

    Args:
        folder: for logs, caches and the stages' root.
        bundle: what the jobs are rendered with.
        seed: of what is drawn.
    """

    def __init__(self, folder: Path, bundle: Path, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.chance = folder, random.Random(seed)
        self._bundle, self._held = bundle, contextlib.ExitStack()
        self.jobs: dict[JobRef, tuple[str, int]] = {}
        """Output and frames of every job that was accepted."""
        self.taken: set[str] = set()
        """Keys of videos that their user deleted."""
        self.losses: list[Loss] = []
        self.workers: list[WorkProcess] = []
        self.children: set[int] = set()
        """Processes below workers that were killed: they must end by themselves."""
        self.faulty_s = 0.0
        """Seconds for which the store was in trouble."""
        self.hits: Counter[str] = Counter()

    def __enter__(self) -> Room:
        os.environ.update(CREDENTIALS)
        server = S3Server()
        self._held.callback(server.stop)
        config = S3Config(endpoint=server.endpoint, region="us-east-1")
        s3_client(config).create_bucket(Bucket="renders")
        self.proxy = self._held.enter_context(
            FaultProxy(server.endpoint, config, self.chance.randrange(10**6))
        )
        self.base = open_storage(f"s3://renders/{uuid.uuid4().hex[:8]}", config)
        self.root = str(self.base.root.join("jobs"))
        self.base.put("ann.jpg", (SAMPLES / "astronaut.jpg").read_bytes())
        ifmdm("jobs", "init", self.root, "--model", f"tiny={self._bundle}", "--endpoint", server.endpoint)
        self.client = JobClient(self.root, s3=config)
        self.user = JobClient(self.root, s3=self.proxy.config)
        """What a user has: it goes through the proxy."""
        self._watch = _Frames(self.store)
        self._held.callback(self._watch.stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.__exit__(kind, error, trace)
        self._held.close()

    @property
    def store(self) -> Storage:
        """The job store, not through the proxy."""
        return self.client.store.storage

    def submit(self, count: int, seconds: tuple[float, float] = SPEECH_S) -> JobRef:
        """So many more jobs, through the proxy, as long as it takes; the last of them."""
        for _ in range(count):
            number, frames = len(self.jobs), round(self.chance.uniform(*seconds) * FPS)
            self.base.put(f"speech/{number}.wav", recording(frames / FPS, number))
            output = str(self.base.root.join(f"out/{number}.mp4"))
            job = {
                "portrait": str(self.base.root.join("ann.jpg")), "output": output, "model": "tiny",
                "audio": str(self.base.root.join(f"speech/{number}.wav")),
                "controls": {"steps": 2, "face": "none", "seed": number}, "max_attempts": 20,
            }  # fmt: skip
            while True:
                try:
                    ref = self.user.submit(job).ref
                    break
                except Unavailable:
                    time.sleep(0.5)
            self.jobs[ref] = (output, frames)
        return ref

    def start_worker(self, *options: str, env: dict[str, str] | None = None) -> WorkProcess:
        """`ifmdm jobs work`, through the proxy: --local where nothing else is said."""
        worker = WorkProcess(
            self.root, self.folder / f"work-{len(self.workers)}.log", *(options or ("--local", "--slots", "2")),
            "--takeover", str(TAKEOVER_S), "--fsck", "8", "--endpoint", str(self.proxy.config.endpoint),
            "--set", f"root={self.folder / 'stages'}", "--set", "decoder.chunk=8",
            env={"IFMDM_CACHE": str(self.folder / "cache"), "OMP_NUM_THREADS": "1", **(env or {})},
        )  # fmt: skip
        self.workers.append(worker)
        return worker

    def hints(self) -> list[Running]:
        """What runs, or may run, now."""
        return [hint for item in self.store.list("running/") if (hint := Running.parse(item.key)) is not None]

    def claims(self, worker: WorkProcess) -> list[Running]:
        """What a worker is at now."""
        name = name_of(worker)
        return [hint for hint in self.hints() if hint.worker == name and self._holds(hint)]

    def delete_hints(self) -> int:
        """Empties queue/ and running/; how many keys that were."""
        keys = [item.key for folder in ("queue/", "running/") for item in self.store.list(folder)]
        for key in keys:
            self.store.delete(key)
        return len(keys)

    def idle(self, name: str | None) -> bool:
        """Whether a worker has no job, by its own heartbeat and its hints."""
        beat = read_beat(self.store, name) if name is not None else None
        return beat is not None and not beat.jobs and not any(hint.worker == name for hint in self.hints())

    def until_some_are_published(self, count: int, seconds: float = 240.0) -> None:
        """Until so many more are than now."""

        def published() -> int:
            return sum(self.view(ref).state.state == "published" for ref in self.jobs)

        wanted = min(len(self.jobs), published() + count)
        until(lambda: published() >= wanted, f"{wanted} jobs are published", seconds, self._last_words)

    def take_away_a_video(self) -> None:
        """Its user deletes one that is published."""
        published = [
            output for ref, (output, _) in self.jobs.items() if self.view(ref).state.state == "published"
        ]
        key = self.key_of(self.chance.choice(published))
        self.base.delete(key)
        self.taken.add(key)

    def key_of(self, output: str) -> str:
        return output.removeprefix(str(self.base.root) + "/")

    def busy_worker(self, wait_s: float = 300.0) -> WorkProcess:
        """One that is in the middle of a job."""
        found: list[WorkProcess] = []

        def look() -> bool:
            found[:] = [worker for worker in self.workers if worker.lives and self._rendering(worker)]
            return bool(found)

        until(look, "a worker in the middle of a job", wait_s, self._last_words)
        return self.chance.choice(found)

    def hit(self, worker: WorkProcess, number: signal.Signals) -> None:
        """Kills or stops a worker."""
        self.children |= set(descendants(worker.pid)[1:])
        claims = self.claims(worker)
        worker.signal(number)
        how = "stop" if number == signal.SIGSTOP else "kill_worker"
        self.losses += [Loss(hint.job, hint.seq, time.time(), how) for hint in claims]
        self.hits[how] += 1

    def until_rendering(self, seconds: float = 240.0) -> None:
        """Until somebody is in the middle of a job."""
        until(
            lambda: any(self._frames_of(hint) for hint in self.hints()),
            "a job is under way",
            seconds,
            self._last_words,
        )

    def kill_any(self, cluster: RayNodes, kind: str, how: str) -> None:
        """`kill -9` of one of Ray's actors, by a regular expression of its title; in the middle of a job."""
        self.until_rendering()
        found = [
            pid
            for node in cluster.nodes
            for pid in descendants(node.pid)
            if re.search(f"^ray::{kind}", command_of(pid))
        ]
        victim = self.chance.choice(found)
        self.lost_with(lambda: os.kill(victim, signal.SIGKILL), how)

    def lost_with(self, harm: Callable[[], object], how: str) -> None:
        """Notes what runs, and does the harm; what is claimed by another later was lost by it."""
        running, at = self.hints(), time.time()
        harm()
        self.losses += [Loss(hint.job, hint.seq, at, how) for hint in running]
        self.hits[how] += 1

    @contextlib.contextmanager
    def trouble(self, seconds: float) -> Iterator[None]:
        """The store is in trouble of changing kinds during the block, and for so many seconds at least."""
        began = time.monotonic()
        share = seconds / len(FAULTS)
        over = threading.Event()

        def change() -> None:
            for fault, methods in FAULTS:
                self.proxy.clear()
                self.proxy.add(fault, methods=methods, chance=0.3)
                if over.wait(share):
                    break
            self.proxy.clear()
            self.faulty_s += time.monotonic() - began

        thread = threading.Thread(target=change, name="trouble")
        thread.start()
        try:
            yield
            thread.join()
        finally:
            over.set()
            thread.join()

    def wait_all(self, seconds: float) -> None:
        """Until every job has ended."""
        until(lambda: all(self.view(ref).state.terminal for ref in self.jobs), "every job has ended", seconds,
              lambda: f"{Counter(self.view(ref).state.state for ref in self.jobs)}\n{self._last_words()}")  # fmt: skip

    def view(self, ref: JobRef) -> JobView:
        return self.client.store.view(ref)

    def leave(self, seconds: float = 60.0) -> None:
        """Tells all workers to leave; nothing must be left running, nor any child of those that were killed."""
        alive = [worker for worker in self.workers if worker.lives]
        for worker in alive:
            worker.signal(signal.SIGTERM)
        for worker in alive:
            assert worker.wait(seconds) == 0, worker.last_words()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in self.children), "orphans end", 60)

    def check(self) -> Figures:
        """Raises AssertionError for a job that did not end as it must; what the run showed."""
        figures = Figures()
        for ref, (output, frames) in self.jobs.items():
            entries = self.client.store.log(ref)
            kinds = [entry.kind for entry in entries]
            last = entries[-1].state
            assert last.state == "published", f"{ref}: {kinds}, {last.fault}"
            assert (kinds.count("done"), kinds.count("published")) == (1, 1), f"{ref}: {kinds}"
            assert last.video is not None
            assert last.video.frames == frames, f"{ref}: {last.video} instead of {frames} frames"
            key = self.key_of(output)
            if key in self.taken:
                assert self.base.info(key) is None, f"{key}: its user deleted it, and it is back"
            else:
                self._check_video(key, last.video.sha256, frames)
            figures.frames += frames
            figures.claims += kinds.count("claimed")
            figures.losses += kinds.count("lost")
            figures.released += kinds.count("released")
            figures.failed_attempts += kinds.count("failed")
            won = next(entry.seq for entry in entries if entry.kind == "done") - 1
            figures.frames_twice += self._watch.rendered(ref, but=won)
            for loss in (loss for loss in self.losses if loss.ref == ref):
                later = [entry for entry in entries if entry.seq > loss.seq and entry.at > loss.at]
                if not later or later[0].kind != "lost":
                    continue  # what was killed was not at it
                if again := [entry.at for entry in later if entry.kind == "claimed"]:
                    figures.claimed_again_s.setdefault(loss.how, []).append(again[0] - loss.at)
                    figures.published_s.setdefault(loss.how, []).append(entries[-1].at - loss.at)
        there = {item.key for item in self.base.list("out/")}
        known = {self.key_of(output) for output, _ in self.jobs.values()}
        assert there <= known, f"outputs of nobody: {sorted(there - known)}"
        left = [item.key for folder in ("queue/", "running/", "later/") for item in self.store.list(folder)]
        assert not left, f"hints of jobs that have ended: {left}"
        return figures

    def _check_video(self, key: str, sha256: str, frames: int) -> None:
        data = self.base.get(key)
        assert hashlib.sha256(data).hexdigest() == sha256, f"{key}: other bytes than `done` says"
        with av.open(io.BytesIO(data)) as container:
            assert sum(1 for _ in container.decode(video=0)) == frames, key

    def _holds(self, hint: Running) -> bool:
        try:
            view = self.view(hint.job)
        except IfmdmError:
            return False
        return view.state.state == "running" and view.seq == hint.seq

    def _rendering(self, worker: WorkProcess) -> bool:
        return any(self._frames_of(hint) for hint in self.claims(worker))

    def _frames_of(self, hint: Running) -> int:
        """How far its worker says it is."""
        beat = read_beat(self.store, hint.worker)
        found = beat.of(hint.job, hint.seq) if beat is not None else None
        return found.frames if found is not None else 0

    def _last_words(self) -> str:
        return "\n".join(f"{worker.log.name}: {worker.last_words(500)}" for worker in self.workers)


class _Frames:
    """Watches heartbeats for how far each attempt came."""

    def __init__(self, storage: Storage) -> None:
        self._storage, self._over = storage, threading.Event()
        self._most: dict[tuple[str, int], int] = {}
        self._thread = threading.Thread(target=self._watch, name="frames", daemon=True)
        self._thread.start()

    def rendered(self, ref: JobRef, but: int) -> int:
        """Frames of the attempts at a job, but for the one whose claim has that number."""
        return sum(frames for (job, seq), frames in self._most.items() if job == str(ref) and seq != but)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            for item in list(self._storage.list("workers/")):
                beat = read_beat(self._storage, item.key.removeprefix("workers/").removesuffix(".json"))
                for job, told in beat.jobs.items() if beat is not None else ():
                    self._most[job, told.seq] = max(told.frames, self._most.get((job, told.seq), 0))


def _span(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f}..{max(seconds):.1f}"


def name_of(worker: WorkProcess) -> str | None:
    """A worker's name in the store; None before it told it."""
    for line in worker.last_words(100_000).splitlines():
        if line.startswith(f"ifmdm: {WORKER}"):
            return line.removeprefix(f"ifmdm: {WORKER}").strip()
    return None


def until(
    condition: Callable[[], bool], what: str, seconds: float, words: Callable[[], str] = lambda: ""
) -> None:
    """Waits; raises AssertionError where it takes longer."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not after {seconds:.0f} s: {what}: {words()}")
        time.sleep(0.2)
