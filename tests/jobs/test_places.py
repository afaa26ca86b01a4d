"""Places that jobs name, reached by many threads at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ifmdm_core.storage import Storage, open_storage
from jobs import tenants
from jobs.tenants import Places


def test_a_place_is_opened_once_however_many_threads_want_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def opens(prefix: str, s3: object) -> Storage:
        opened.append(prefix)
        threading.Event().wait(0.05)  # as a client of S3 takes its time
        return open_storage(prefix)

    monkeypatch.setattr(tenants, "open_storage", opens)
    places, root = Places(), str(tmp_path)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda n: places.at(f"{root}/{n}.wav", (root,), "audio")[0], range(64)))
    assert opened == [root]
    assert len(set(map(id, found))) == 1
