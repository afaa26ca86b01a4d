"""Everything one worker process has: store, renderer, loops and errands, put together and taken apart again."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from ifmdm_core.storage import open_storage
from jobs.rendering.bundles import Bundles
from jobs.rendering.renderer import FlowRenderer
from jobs.running.errands import errands
from jobs.running.options import WorkOptions
from jobs.running.process import WorkerProcess
from jobs.store import JobStore, new_worker_name
from jobs.tenants import Places

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerStatus:
    """What a worker does."""

    name: str
    jobs: dict[str, tuple[int, int]]
    """Frames done and in all, by "<tenant>/<id>"."""
    finished: int
    """Attempts that have ended here."""


class HostedWorker:
    """One worker in this process. `run` blocks until `leave` is called from another thread.

    Args:
        bundles: where its stages come from; closed in the end.

    Raises NotFound, Unsupported where the root is no store of ours; as `Signer.open` for the certificate.
    """

    def __init__(self, options: WorkOptions, bundles: Bundles) -> None:
        host = socket.gethostname()
        storage = open_storage(options.root, options.s3)
        JobStore(storage, host).check_layout()
        self._options, self._places = options, Places(options.s3)
        self._renderer = FlowRenderer(options.serve, bundles, oversight=storage)
        self.process = WorkerProcess(
            storage,
            self._places,
            self._renderer,
            name=new_worker_name(host),
            slots=options.slots,
            host=host,
            wanted=bundles.serves,
            takeover_s=options.takeover_s,
            stall_s=options.stall_s,
        )
        self.fault: Exception | None = None
        """Why `run` ended though nobody said `leave`."""

    def run(self) -> None:
        """Works until told to leave; everything is given back when it returns."""
        try:
            self.process.run(errands(self._options, self.process.store, self._places))
        finally:
            self._renderer.close()

    def begin(self, ended: Callable[[], None] = lambda: None) -> threading.Thread:
        """`run` in a thread; `ended` is called in it when that is over, and `fault` says whether it should be."""

        def run() -> None:
            try:
                self.run()
            except Exception as error:
                _log.exception("the worker has ended")
                self.fault = error
            ended()

        thread = threading.Thread(target=run, name="worker")
        thread.start()
        return thread

    def status(self) -> WorkerStatus:
        """How far it is. From any thread."""
        worker = self.process.worker
        jobs = {str(ref): (p.frames, p.total) for ref, p in list(worker.jobs.items())}
        return WorkerStatus(worker.store.by, jobs, worker.finished)

    def leave(self) -> None:
        """No further job; those that run are given back at their next chunk."""
        self.process.leave()
