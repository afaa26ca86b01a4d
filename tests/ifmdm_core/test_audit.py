"""The audit log: nothing is there twice, nothing is overwritten, and what was changed shows."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ifmdm_core.audit import ALL, AuditLog
from ifmdm_core.audit_check import check, events, pages
from ifmdm_core.errors import Unavailable
from ifmdm_core.storage import FolderStorage, S3Config, Storage, open_storage

DAY = 86_400.0
NOON = 1_790_000_000.0


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, s3_config: S3Config) -> Storage:
    if request.param == "folder":
        return open_storage(tmp_path)
    return open_storage(f"s3://renders/audit-{os.urandom(4).hex()}", s3_config)


def written(storage: Storage, *, now: Callable[[], float] = lambda: NOON) -> AuditLog:
    """A log with three pages of one process and three changes by two."""
    log = AuditLog(storage, "Gateway@Desk 1", now)
    for number in range(3):
        log.note("acme", "rendered", "web-shop", f"render-{number}", {"portrait": "ab" * 32})
        assert log.flush() == 1
    for number, who in enumerate((log, log, AuditLog(storage, "ann", now))):
        who.change(ALL, "portrait denied", "ann", f"{number}" * 64)
    return log


def test_what_was_noted_is_told_once_by_whom_and_when(storage: Storage) -> None:
    written(storage)
    told = list(events(storage))
    assert sorted(t.event.subject for t in told if t.tenant == "acme") == ["render-0", "render-1", "render-2"]
    assert {(t.event.who, t.event.what, t.event.at) for t in told if t.tenant == "acme"} == {
        ("web-shop", "rendered", NOON)
    }
    assert all(t.stored_at != NOON for t in told)  # by the store's clock
    checked = check(storage, NOON)
    assert (checked.pages, checked.events, checked.problems) == (6, 6, [])


def test_many_events_share_a_page_and_tenants_share_none(storage: Storage) -> None:
    log = AuditLog(storage, "gateway", lambda: NOON)
    for number in range(40):
        log.note("acme" if number % 2 else "umbrella", "rendered", "t", str(number))
    assert log.flush() == 40
    assert sorted((page.tenant, len(page.page.events)) for page in pages(storage) if page.page) == [
        ("acme", 20), ("umbrella", 20)
    ]  # fmt: skip
    assert log.flush() == 0


def test_every_kind_of_tampering_shows(tmp_path: Path) -> None:
    def mended(name: str) -> tuple[Storage, list[str]]:
        storage = open_storage(tmp_path / name)
        written(storage)
        return storage, [page.key for page in pages(storage) if page.tenant == "acme"]

    storage, keys = mended("changed")
    path = storage.local_path(keys[1])
    assert path is not None
    path.write_bytes(path.read_bytes().replace(b"web-shop", b"somebody"))
    assert check(storage, NOON).problems == [f"{keys[1]} was changed after {keys[2]} was written"]

    storage, keys = mended("taken out")
    storage.delete(keys[1])
    assert check(storage, NOON).problems == [f"{keys[2]}: the page before it is missing"]

    storage, keys = mended("beginning cut off")
    storage.delete(keys[0])
    assert check(storage, NOON).problems == [f"{keys[1]}: the page before it is missing"]

    storage, keys = mended("replaced by one without history")
    page = json.loads(storage.get(keys[2]))
    storage.put(keys[2], json.dumps({**page, "before": None}).encode())
    assert check(storage, NOON).problems == [f"{keys[2]} names no page before it"]

    storage, keys = mended("put between")
    storage.put(keys[2].replace("00000003", "00000009"), storage.get(keys[2]))
    assert check(storage, NOON).problems == [
        f"{keys[2].replace('00000003', '00000009')}: the page before it is missing"
    ]

    storage, keys = mended("damaged")
    storage.put(keys[2], b"{")
    assert check(storage, NOON).problems == [f"{keys[2]} is damaged, or none of ifmdm's"]


def test_a_cut_off_end_shows_in_the_heads_that_were_kept_elsewhere(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    written(storage)
    before = check(storage, NOON)
    storage.delete(max(page.key for page in pages(storage) if page.tenant == "acme"))
    after = check(storage, NOON)
    assert after.problems == []  # the log itself cannot know
    assert after.heads != before.heads


def test_a_chain_goes_on_over_midnight_and_old_days_may_go(tmp_path: Path) -> None:
    storage, now = open_storage(tmp_path), [NOON]
    log = AuditLog(storage, "gateway", lambda: now[0])
    for _ in range(3):
        log.note("acme", "rendered", "t", "r")
        log.flush()
        now[0] += DAY
    first, second, third = (page.key for page in pages(storage))
    assert len({key.split("/")[2][:8] for key in (first, second, third)}) == 3
    storage.delete(first)
    assert check(storage, now[0]).problems == [f"{second}: {first}, which it follows, is missing"]
    assert check(storage, now[0], kept_days=2).problems == []
    storage.delete(second)
    assert len(check(storage, now[0], kept_days=2).problems) == 1  # too young to have been removed


class Forgetful(FolderStorage):
    """Writes what it is told, and then does not answer."""

    silent = 0

    def put_if_absent(self, key: str, data: bytes) -> bool:
        done = super().put_if_absent(key, data)
        if self.silent:
            self.silent -= 1
            raise Unavailable("no answer")
        return done

    def get(self, key: str) -> bytes:
        if self.silent:
            self.silent -= 1
            raise Unavailable("no answer")
        return super().get(key)


def test_an_unclear_answer_writes_nothing_twice(tmp_path: Path) -> None:
    storage = Forgetful(open_storage(tmp_path).root)
    log = AuditLog(storage, "gateway", lambda: NOON)
    log.note("acme", "rendered", "t", "one")
    storage.silent = 2
    with pytest.raises(Unavailable):
        log.flush()
    log.note("acme", "rendered", "t", "two")
    assert log.flush() == 2
    assert [told.event.subject for told in events(storage)] == ["one", "two"]
    assert check(storage, NOON).problems == []


def test_two_who_change_at_once_are_one_chain(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    storage = open_storage(tmp_path)

    def change(number: int) -> None:
        AuditLog(storage, f"w{number}").change(ALL, "portrait denied", "ann", str(number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(change, range(12)))
    found = list(pages(storage))
    assert [page.seq for page in found] == list(range(1, 13))
    assert check(storage, NOON).problems == []
