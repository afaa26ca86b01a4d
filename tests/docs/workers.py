"""A worker for documents that submit jobs: it takes what is there and publishes the same small video every time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from ifmdm_core.storage import S3Config, Storage
from jobs.running.process import WorkerProcess
from jobs.tenants import Places
from tests.docs.typed import run_ifmdm
from tests.jobs.instant import InstantRenderer


@contextlib.contextmanager
def instant_worker(storage: Storage, s3: S3Config | None = None) -> Iterator[None]:
    """One, for the block; `ifmdm jobs init` makes the store first, for users of the current folder."""
    code, said = run_ifmdm("jobs", "init", str(storage.root))
    assert code == 0, said
    process = WorkerProcess(storage, Places(s3), InstantRenderer(), name="docs.1", host="docs", takeover_s=60)
    thread = threading.Thread(target=process.run)
    thread.start()
    try:
        yield
    finally:
        process.leave()
        thread.join(60)
