"""A job store with one tenant and a worker that runs in the test's own turn; what renders is a stand-in."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from ifmdm_core.errors import IfmdmError
from ifmdm_core.storage import S3Config, Storage, open_storage
from jobs.init import first_policy, make_store
from jobs.names import FOLDERS, LOOKED, JobRef, tenant_key
from jobs.rendering.contract import Rendered, Report, Task
from jobs.spec import parse_job
from jobs.store import JobStore, JobView
from jobs.submit import Submitted, submit_job
from jobs.tenants import Places, TenantPolicy, read_policy
from jobs.worker import Worker

BUSY_S = {"speech": 0.5, "motion": 1.0, "decoder": 2.5}


class TestClock:
    """Begins now and goes on only when somebody sleeps.

    Attributes:
        on_sleep: called before each sleep.
    """

    __test__ = False

    def __init__(self) -> None:
        self.chance = random.Random(0)
        self.began, self.passed = time.time(), 0.0
        self.on_sleep: Callable[[], None] = lambda: None

    def now(self) -> float:
        return self.began + self.passed

    def monotonic(self) -> float:
        return self.passed

    def sleep(self, seconds: float) -> None:
        self.on_sleep()
        self.passed += seconds


class StandIn:
    """Renders four chunks of ten frames out of nothing. `faults` and `between` are asked with the task."""

    def __init__(self) -> None:
        self.faults: Callable[[Task], BaseException | None] = lambda task: None
        self.between: Callable[[Task], None] = lambda task: None

    @contextlib.contextmanager
    def render(self, task: Task, report: Report) -> Iterator[Rendered]:
        report(0, 40)
        lines = [
            {"time": "2026-01-05T10:00:00.000+00:00", "event": "began", "epoch": task.epoch},
            {"time": "2026-01-05T10:00:01.000+00:00", "event": "decoded", "frames": 40},
        ]
        try:
            for frames in (10, 20, 30, 40):
                self.between(task)
                if (fault := self.faults(task)) is not None:
                    raise fault
                report(frames, 40)
        except IfmdmError as error:
            lines[1:] = [{"time": lines[0]["time"], "event": "error", "what": error.what}]
            error.busy_s = BUSY_S  # type: ignore[attr-defined]
            raise
        finally:
            text = "".join(json.dumps(line) + "\n" for line in lines)
            task.storage.put(f"{task.folder}/log.jsonl", text.encode())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "video.mp4")
            path.write_bytes(self.video(task))
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            yield Rendered(path, sha256, path.stat().st_size, 40, 25, 4.0, busy_s=BUSY_S)

    def video(self, task: Task) -> bytes:
        """The bytes of its video."""
        return f"{task.id} {task.epoch} {task.portrait.uri}".encode()


class SmallStore:
    """A job store for tests.

    Args:
        root: of the store; inputs and outputs lie under it too.
        storage: other than what `root` opens as.
    """

    def __init__(self, root: str | Path, s3: S3Config | None = None, storage: Storage | None = None) -> None:
        self.storage = storage or open_storage(root, s3)
        self.clock = TestClock()
        self.store = JobStore(self.storage, "ann@desk", self.clock)
        self.places, self.renderer, self.workers = Places(s3), StandIn(), 0
        make_store(self.store)
        for name in ("ann.png", "ann.wav"):
            self.storage.put(f"in/{name}", name.encode())
        self.let_in("default")

    def let_in(self, tenant: str, **changes: object) -> None:
        """Gives a tenant the whole root."""
        root = self.storage.root
        policy = first_policy(root, "default", Path("/nowhere"))
        whole = (str(root),)
        policy = policy.model_copy(update={"inputs": whole, "outputs": whole, **changes})
        self.storage.put(tenant_key(tenant), policy.model_dump_json().encode())

    def policy(self, tenant: str = "default") -> TenantPolicy:
        return read_policy(self.storage, tenant)

    def uri(self, key: str) -> str:
        return str(self.storage.root.join(key))

    def hand_in(self, name: str, tenant: str = "default", **fields: object) -> Submitted:
        """A job whose output is out/<name>.mp4."""
        given = {"portrait": self.uri("in/ann.png"), "audio": self.uri("in/ann.wav"), **fields}
        given.setdefault("output", self.uri(f"out/{name}.mp4"))
        self.clock.passed += 0.01
        return submit_job(self.store, self.places, tenant, self.policy(tenant), parse_job(given))

    def submit(self, name: str, tenant: str = "default", **fields: object) -> JobRef:
        return self.hand_in(name, tenant, **fields).ref

    def worker(self, name: str | None = None) -> Worker:
        """One whose attempts run in its own turn; `work` returns when there is nothing to do."""
        self.workers += 1
        store = JobStore(self.storage, name or f"worker.{self.workers}", self.clock)
        return Worker(store, self.places, self.renderer, spawn=lambda run: run(), host="desk")

    def work(self) -> None:
        """Renders what waits; what is to come later waits on."""
        worker, looks = self.worker(), iter(range(4))

        def idle() -> None:
            worker.leaving = next(looks, None) is None

        self.clock.on_sleep = idle
        worker.work()
        worker.sign_off()
        self.clock.on_sleep = lambda: None

    def view(self, ref: JobRef) -> JobView:
        return self.store.view(ref)

    def state(self, ref: JobRef) -> str:
        return self.view(ref).state.state

    def kinds(self, ref: JobRef) -> list[str]:
        return [entry.kind for entry in self.store.log(ref)]

    def grow_older(self, seconds: float, prefix: str = "") -> None:
        """Everything of the store's own (under `prefix`) was written so much earlier, by the store's clock."""
        for item in self.storage.list(prefix):
            if item.key.split("/")[0] not in {*FOLDERS, LOOKED}:
                continue
            path = self.storage.local_path(item.key)
            if path is not None:
                stat = path.stat()
                os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - round(seconds * 1e9)))
            else:
                _moto_object(self.storage, item.key).last_modified -= timedelta(seconds=seconds)

    def keys(self, prefix: str) -> list[str]:
        return [item.key for item in self.storage.list(prefix)]


def _moto_object(storage: Storage, key: str) -> Any:
    """What the S3 server of this process keeps at a key."""
    from moto.s3.models import s3_backends

    (backend,) = s3_backends["123456789012"].values()
    return backend.buckets[storage.root.bucket].keys[f"{storage.root.path}/{key}"]
