"""The one primitive of the job store, and how a job is read: what unclear answers and damaged files mean."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ifmdm_core.errors import Conflict, NotFound, Unavailable, Unsupported
from ifmdm_core.storage import S3Config, open_storage
from ifmdm_core.storage.memory import Bucket, MemoryStorage, Op
from jobs import entries
from jobs.names import JobRef
from jobs.store import ANSWERS, PAUSE_MOST_S, JobStore
from tests.fault_proxy import Answer, FaultProxy, Lose, Refuse
from tests.jobs.small_store import SmallStore, TestClock

KEY = "jobs/t/log/00000001.json"


class Moody:
    """A store that answers creations as told: each mood is used once, in turn."""

    def __init__(self, *moods: str) -> None:
        self.bucket, self.moods = Bucket("renders"), list(moods)
        self.clock = TestClock()
        self.store = JobStore(MemoryStorage(self.bucket, gate=self._request), "w1", self.clock)
        self.requests: list[Op] = []

    def create(self) -> bool:
        return self.store.create_once(KEY, b"ours: nonce-1", "nonce-1")

    def _request(self, op: Op, key: str, effect: Callable[[], Any]) -> Any:
        self.requests.append(op)
        mood = self.moods.pop(0) if self.moods and op == "create" else ""
        if mood == "silent":
            raise Unavailable("503")
        if mood == "another":
            self.bucket.write(KEY, b"theirs: nonce-2")
            raise Unavailable("no answer")
        result = effect()
        if mood == "lost answer":
            raise Unavailable("no answer")
        if mood == "no":
            return False
        if mood == "no, and gone":
            self.bucket.remove(KEY)
            return False
        return result


@pytest.mark.parametrize(
    ("moods", "won"),
    [
        ([], True),
        (["lost answer"], True),
        (["no"], True),  # a retry below us met our own first write
        (["silent"], True),
        (["silent"] * (ANSWERS - 1), True),
        (["silent", "lost answer"], True),
        (["another"], False),
        (["silent", "silent", "another"], False),
        (["no, and gone"], True),
    ],
)
def test_whoever_is_not_told_reads_what_happened(moods: Sequence[str], won: bool) -> None:
    moody = Moody(*moods)
    assert moody.create() is won
    assert moody.bucket.objects[KEY].data == (b"ours: nonce-1" if won else b"theirs: nonce-2")


def test_a_clear_answer_costs_one_request_and_a_loss_two() -> None:
    moody = Moody()
    assert moody.create()
    assert moody.requests == ["create"]
    assert not JobStore(moody.store.storage, "w2", moody.clock).create_once(KEY, b"nonce-9", "nonce-9")
    assert moody.requests == ["create", "create", "get"]


def test_a_store_that_never_answers_is_given_up_after_a_while() -> None:
    moody = Moody(*["silent"] * 100)
    with pytest.raises(Unavailable, match=KEY):
        moody.create()
    assert moody.requests.count("create") == ANSWERS
    assert 0 < moody.clock.passed <= ANSWERS * PAUSE_MOST_S * 1.5


def test_pauses_differ_between_workers() -> None:
    passed = set()
    for seed in range(5):
        moody = Moody("silent", "silent")
        moody.clock.chance = random.Random(seed)
        moody.create()
        passed.add(moody.clock.passed)
    assert len(passed) == 5


@pytest.mark.parametrize("fault", [Lose(), Refuse(), Answer(409, "ConditionalRequestConflict"), Answer(503)])
def test_over_http_a_write_without_an_answer_is_won_once(
    flaky_s3: FaultProxy, tmp_path: Path, fault: Any
) -> None:
    ours, theirs = (
        JobStore(open_storage(f"s3://renders/{tmp_path.name}", flaky_s3.config), by, TestClock())
        for by in ("w1", "w2")
    )
    flaky_s3.add(fault, times=2, methods=("PUT",))
    assert ours.create_once("slot", b"nonce-1", "nonce-1")
    flaky_s3.add(fault, times=1, methods=("PUT",))
    assert not theirs.create_once("slot", b"nonce-2", "nonce-2")
    assert ours.storage.get("slot") == b"nonce-1"


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_of_many_who_append_one_entry_one_wins(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    s3: S3Config | None = request.getfixturevalue("s3_config") if kind == "s3" else None
    small = SmallStore(f"s3://renders/{tmp_path.name}" if s3 else tmp_path, s3)
    ref = small.submit("film")
    state = small.view(ref).state

    def append(number: int) -> bool:
        store = JobStore(small.storage, f"w{number}", TestClock())
        return store.append(ref, 1, "claimed", entries.claimed(state, store.by, 1.0))

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(append, range(16)))
    assert sum(won) == 1
    assert small.view(ref).state.worker == f"w{won.index(True)}"


def test_nonces_are_never_alike(tmp_path: Path) -> None:
    store = JobStore(open_storage(tmp_path), "w1")
    assert len({store.nonce() for _ in range(1000)}) == 1000


@pytest.fixture
def small(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


def test_a_job_is_its_last_entry(small: SmallStore) -> None:
    ref = small.submit("film", priority=3)
    view = small.view(ref)
    assert (view.seq, view.state.state, view.state.priority, view.final) == (0, "queued", 3, False)
    assert view.record is not None
    small.work()
    view = small.view(ref)
    assert (view.seq, view.state.state) == (3, "published")
    assert view.entry is not None
    assert [entry.kind for entry in small.store.log(ref)] == ["claimed", "done", "published"]


def test_what_is_not_there_is_not_found(small: SmallStore) -> None:
    with pytest.raises(NotFound, match="0123"):
        small.store.view(JobRef("default", "0123" * 8))


def test_a_log_with_a_gap_or_a_strangers_file_is_refused(small: SmallStore) -> None:
    ref = small.submit("film")
    small.work()
    first = small.storage.get(ref.log(1))
    small.storage.delete(ref.log(1))
    with pytest.raises(Conflict, match=r"gap: \[2, 3\]"):
        small.view(ref)
    small.storage.put(ref.log(1), first)
    small.storage.put(f"{ref.folder}log/notes.txt", b"")
    with pytest.raises(Conflict, match="gap"):
        small.view(ref)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"layout": 1}', b'"x"'])
def test_damaged_files_are_named(small: SmallStore, damage: bytes) -> None:
    ref = small.submit("film")
    small.work()
    small.storage.put(ref.log(3), damage)
    with pytest.raises(Conflict, match=r"00000003\.json is damaged"):
        small.view(ref)


def test_another_layout_is_refused_by_its_number(small: SmallStore) -> None:
    ref = small.submit("film")
    spec = json.loads(small.storage.get(ref.spec))
    small.storage.put(ref.spec, json.dumps({**spec, "layout": 2}).encode())
    with pytest.raises(Unsupported, match="layout 2"):
        small.view(ref)


def test_a_job_copied_into_another_tenants_folder_is_refused(small: SmallStore) -> None:
    ref = small.submit("film")
    copy = JobRef("other", ref.id)
    small.storage.put(copy.spec, small.storage.get(ref.spec))
    with pytest.raises(Conflict, match=f"default/{ref.id}"):
        small.view(copy)


def test_a_job_that_is_cleaned_up_while_it_is_read_is_read_as_what_is_left(tmp_path: Path) -> None:
    small = SmallStore(tmp_path / "store")
    ref = small.submit("film")
    small.work()
    final = json.dumps({"state": small.view(ref).state.model_dump(mode="json"), "at": 1.0}).encode()
    bucket = Bucket("renders")
    for item in small.storage.list(ref.folder):
        bucket.write(item.key, small.storage.get(item.key))

    def request(op: Op, key: str, effect: Callable[[], Any]) -> Any:
        result = effect()
        if op == "list" and ref.final not in bucket.objects:
            bucket.write(ref.final, final)
            for seq in (1, 2, 3):
                bucket.remove(ref.log(seq))
        return result

    view = JobStore(MemoryStorage(bucket, gate=request), "reader", TestClock()).view(ref)
    assert (view.state.state, view.final) == ("published", True)


def test_wishes_are_seen_with_the_job(small: SmallStore) -> None:
    ref = small.submit("film")
    small.storage.put(ref.wish(0, "stop"), b'{"how": "suspend"}')
    small.storage.put(f"{ref.folder}wishes/00000000-dance.json", b"{}")
    view = small.view(ref)
    assert view.wishes == {(0, "stop")}
    assert view.wished("stop")
    assert small.store.read_wish(ref, 0, "stop")["how"] == "suspend"
