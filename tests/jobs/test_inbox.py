"""The inbox: files that become jobs once, whoever takes them up and however often."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from ifmdm_core.errors import Unavailable
from jobs.inbox import PATIENCE_S, TAKEN_S, Inbox, Received
from jobs.store import JobStore
from tests.jobs.small_store import SmallStore


@pytest.fixture(params=["folder", "s3"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> SmallStore:
    if request.param == "folder":
        return SmallStore(tmp_path / "store")
    return SmallStore(f"s3://renders/{tmp_path.name}", request.getfixturevalue("s3_config"))


@pytest.fixture
def disk(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


def job(small: SmallStore, name: str, **fields: Any) -> dict[str, Any]:
    given = {"portrait": small.uri("in/ann.png"), "audio": small.uri("in/ann.wav")}
    return {**given, "output": small.uri(f"out/{name}.mp4"), **fields}


def drop(small: SmallStore, key: str, content: Any) -> None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    small.storage.put(key, data)
    small.clock.passed += 5  # a file in a folder may be one that is being written


def sweep(small: SmallStore) -> Received:
    return Inbox(small.store, small.places).sweep()


def specs(small: SmallStore) -> list[str]:
    return [key for key in small.keys("jobs/") if key.endswith("/spec.json")]


def test_a_file_is_a_job_and_goes_when_it_is_in(small: SmallStore) -> None:
    drop(small, "inbox/default/a.json", job(small, "a"))
    drop(small, "inbox/default/more/b.json", job(small, "b", key="mine"))
    drop(small, "inbox/default/ann.png", b"no job")
    received = sweep(small)
    assert (received.jobs, received.files, received.rejected) == (2, 2, [])
    assert small.keys("inbox/") == ["inbox/default/ann.png"]
    assert sweep(small) == Received()
    small.work()
    assert sorted(small.keys("out/")) == ["out/a.mp4", "out/b.mp4"]


def test_the_tenant_is_that_of_the_path(disk: SmallStore) -> None:
    disk.let_in("other")
    drop(disk, "inbox/other/a.json", job(disk, "a"))
    sweep(disk)
    assert specs(disk)[0].startswith("jobs/other/")


def test_files_of_unknown_tenants_wait_until_they_are_let_in(disk: SmallStore) -> None:
    drop(disk, "inbox/stranger/a.json", job(disk, "a"))
    drop(disk, "inbox/Not a tenant/a.json", job(disk, "a"))
    drop(disk, "inbox/a.json", job(disk, "a"))
    inbox = Inbox(disk.store, disk.places)
    assert inbox.sweep() == Received()
    assert len(disk.keys("inbox/")) == 3
    disk.let_in("stranger")
    assert inbox.sweep().jobs == 1


@pytest.mark.parametrize(
    ("content", "field", "says"),
    [
        (b"{", "", "not JSON"),
        (b"[]", "", "[]"),
        ({"steps": 3}, "steps", "unknown setting 'steps'"),
        ({"output": "s3://elsewhere/a.mp4"}, "output", "outside"),
        ({"audio": "x/a.wav"}, "audio", "relative"),
        (b" " * (1 << 21), "", "more than any job"),
    ],
)
def test_what_cannot_be_a_job_stays_with_the_reason_beside_it(
    disk: SmallStore, content: Any, field: str, says: str
) -> None:
    given = content if isinstance(content, bytes) else job(disk, "a", **content)
    drop(disk, "inbox/default/a.json", given)
    for _ in range(2):
        sweep(disk)  # another worker's; it reads what the first has told
    assert disk.keys("inbox/") == ["inbox/default/a.json", "inbox/default/a.json.rejected.json"]
    told = json.loads(disk.storage.get("inbox/default/a.json.rejected.json"))
    assert told["error"]["field"] == field
    assert says in told["error"]["what"]
    assert specs(disk) == []


def test_a_rejected_file_is_told_once_and_taken_up_when_it_is_replaced(small: SmallStore) -> None:
    drop(small, "inbox/default/a.json", {"portrait": "x"})
    inbox = Inbox(small.store, small.places)
    assert inbox.sweep().rejected == ["inbox/default/a.json"]
    assert inbox.sweep().rejected == []
    assert sweep(small).rejected == []
    drop(small, "inbox/default/a.json", job(small, "a"))
    assert inbox.sweep().jobs == 1
    assert small.keys("inbox/") == []


def test_inputs_may_come_later_than_the_job(disk: SmallStore) -> None:
    drop(disk, "inbox/default/a.json", job(disk, "a", audio=disk.uri("inbox/default/late.wav")))
    assert sweep(disk) == Received()
    drop(disk, "inbox/default/late.wav", b"a voice")
    assert sweep(disk).jobs == 1
    drop(disk, "inbox/default/b.json", job(disk, "b", audio=disk.uri("in/never.wav")))
    assert sweep(disk) == Received()
    disk.grow_older(PATIENCE_S + 10, "inbox/")
    assert sweep(disk).rejected == ["inbox/default/b.json"]
    assert json.loads(disk.storage.get("inbox/default/b.json.rejected.json"))["error"]["field"] == "audio"


def test_a_file_that_may_not_be_whole_yet_waits(disk: SmallStore) -> None:
    disk.storage.put("inbox/default/a.json", json.dumps(job(disk, "a")).encode())
    assert sweep(disk) == Received()
    disk.clock.passed += 5
    assert sweep(disk).jobs == 1


def test_a_crash_before_the_file_was_removed_makes_no_second_job(
    disk: SmallStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(disk, "inbox/default/a.json", job(disk, "a"))

    def gone(key: str, etag: str) -> bool:
        raise Unavailable("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(disk.storage, "delete_if", gone)
        with pytest.raises(Unavailable):
            sweep(disk)
    disk.work()
    disk.storage.put("in/ann.wav", b"another take")  # so that the same fields would be another job
    received = sweep(disk)
    assert (received.jobs, received.files, received.rejected) == (0, 1, [])
    assert len(specs(disk)) == 1
    assert disk.keys("inbox/") == []


def test_a_file_that_was_replaced_meanwhile_is_a_job_of_its_own(disk: SmallStore) -> None:
    drop(disk, "inbox/default/a.json", job(disk, "a"))
    get = disk.storage.get

    def replaced(key: str) -> bytes:
        data = get(key)
        if key == "inbox/default/a.json":
            disk.storage.get = get  # type: ignore[method-assign]
            disk.storage.put(key, json.dumps(job(disk, "b")).encode())
        return data

    disk.storage.get = replaced  # type: ignore[method-assign]
    assert sweep(disk).jobs == 1
    assert disk.keys("inbox/") == ["inbox/default/a.json"]
    disk.clock.passed += 5
    assert sweep(disk).jobs == 1
    disk.work()
    assert sorted(disk.keys("out/")) == ["out/a.mp4", "out/b.mp4"]


def test_workers_at_once_make_one_job_a_file(small: SmallStore) -> None:
    for number in range(4):
        drop(small, f"inbox/default/{number}.json", job(small, str(number)))
    found: list[Received] = []

    def run(number: int) -> None:
        store = JobStore(small.storage, f"worker.{number}", small.clock)
        found.append(Inbox(store, small.places).sweep())

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert sum(received.jobs for received in found) == 4
    assert [name for received in found for name in received.rejected] == []
    assert len(specs(small)) == 4
    assert small.keys("inbox/") == []


def csv_of(small: SmallStore, outputs: list[str]) -> bytes:
    rows = [f"{small.uri('in/ann.png')},{small.uri('in/ann.wav')},{output}" for output in outputs]
    return "\n".join(["portrait,audio,output", *rows]).encode()


def test_a_manifest_is_many_jobs(small: SmallStore) -> None:
    drop(small, "inbox/default/m.csv", csv_of(small, [small.uri(f"out/{n}.mp4") for n in range(3)]))
    drop(small, "inbox/default/n.jsonl", json.dumps(job(small, "x")).encode() + b"\n")
    received = sweep(small)
    assert (received.jobs, received.files) == (4, 2)
    assert small.keys("inbox/") == []


def test_bad_rows_of_a_manifest_are_told_and_a_mended_one_makes_no_doubles(disk: SmallStore) -> None:
    good = [disk.uri("out/1.mp4"), disk.uri("out/2.mp4")]
    drop(disk, "inbox/default/m.csv", csv_of(disk, [good[0], "x.mov", good[1]]))
    received = sweep(disk)
    assert (received.jobs, received.rejected) == (2, ["inbox/default/m.csv"])
    told = json.loads(disk.storage.get("inbox/default/m.csv.rejected.json"))
    assert told["rejected"] == 1
    assert (told["rows"][0]["line"], told["rows"][0]["field"]) == (3, "output")
    assert sweep(disk) == Received()
    drop(disk, "inbox/default/m.csv", csv_of(disk, [good[0], disk.uri("out/3.mp4"), good[1]]))
    received = sweep(disk)
    assert (received.jobs, received.files) == (1, 1)
    assert len(specs(disk)) == 3
    assert disk.keys("inbox/") == []


def test_a_manifest_that_a_worker_is_at_is_left_to_it_for_a_while(disk: SmallStore) -> None:
    drop(disk, "inbox/default/m.csv", csv_of(disk, [disk.uri("out/1.mp4")]))
    disk.storage.put("inbox/default/m.csv.taken", b"")
    assert sweep(disk) == Received()
    disk.grow_older(TAKEN_S + 10, "inbox/")
    assert sweep(disk).jobs == 1
    assert disk.keys("inbox/") == []
