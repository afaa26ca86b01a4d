"""Who did what with a job store: by the jobs' own logs, by their records when these have gone, by the audit log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ifmdm_core.audit import ALL, AuditLog
from ifmdm_core.denylist import Denial, DenyList, Entry
from jobs import steer
from jobs.audit import lines, verify
from jobs.gc import collect
from jobs.inbox import Inbox
from jobs.init import let_in
from jobs.names import tenant_key
from jobs.tenants import TenantPolicy
from tests.jobs.command_line import Commands
from tests.jobs.small_store import SmallStore


@pytest.fixture
def disk(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


def test_jobs_are_told_by_their_own_logs_and_cost_nothing_more(disk: SmallStore) -> None:
    ref = disk.submit("one", consent="form 17")
    disk.work()
    told = [line for line in lines(disk.store) if line.subject == ref.id]
    assert [line.what for line in told] == ["submitted", "claimed", "done", "published"]
    assert [line.who for line in told] == ["ann@desk", *["worker.1"] * 3]
    assert "consent form 17" in told[0].note
    video = disk.view(ref).state.video
    assert video is not None
    assert told[2].digests == {"video": video.sha256}
    assert not disk.keys("audit/")


def test_gc_keeps_who_did_what_in_the_record(disk: SmallStore) -> None:
    ref = disk.submit("one")
    steer.stop(disk.store, ref, "cancel")
    steer.retry(disk.store, ref)
    disk.work()
    before = [(line.what, line.who) for line in lines(disk.store)]
    collect(disk.store, keep_days=0, dry_run=False)
    assert disk.view(ref).final
    assert [(line.what, line.who) for line in lines(disk.store)] == before
    assert ("cancelled", "ann@desk") in before
    assert lines(disk.store, tenants=("other",)) == []


def test_what_is_refused_at_the_inbox_is_told(disk: SmallStore) -> None:
    disk.let_in("acme", consent="required")
    asked = {
        "portrait": disk.uri("in/ann.png"),
        "audio": disk.uri("in/ann.wav"),
        "output": disk.uri("out/a.mp4"),
    }
    disk.storage.put("inbox/acme/a.json", json.dumps(asked).encode())
    disk.grow_older(60, "inbox/")
    Inbox(disk.store, disk.places).sweep()
    (told,) = lines(disk.store)
    assert (told.tenant, told.what, told.subject) == ("acme", "refused", disk.uri("out/a.mp4"))
    assert "consent" in told.note


def test_a_policy_changed_by_other_means_shows(disk: SmallStore) -> None:
    let_in(disk.store, "acme", TenantPolicy(cap=3))
    let_in(disk.store, "acme", TenantPolicy(consent="required"))
    assert verify(disk.store).problems == []
    assert [(line.who, line.note) for line in lines(disk.store)] == [
        ("ann@desk", "cap"),
        ("ann@desk", "consent"),
    ]
    disk.let_in("acme", cap=1000)
    (problem,) = verify(disk.store).problems
    assert tenant_key("acme") in problem


def test_a_deny_list_changed_by_other_means_shows(disk: SmallStore) -> None:
    told, gone = Entry("a" * 64), Entry("b" * 64)
    for entry in (told, gone):
        AuditLog(disk.storage, "ann").change(ALL, "portrait denied", "ann", entry.sha256)
    denied = DenyList(disk.storage)
    denied.add(told, Denial(reason="r"))
    denied.add(Entry("c" * 64), Denial(reason="r"))
    problems = verify(disk.store).problems
    assert len(problems) == 2
    assert any("bbbb" in problem and "gone" in problem for problem in problems)
    assert any("cccc" in problem and "nobody" in problem for problem in problems)


def test_the_command_lists_checks_and_says_where_it_is_wrong(
    disk: SmallStore, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    ifmdm = Commands(disk, capsys)
    ref = disk.submit("one")
    disk.work()
    assert [line["what"] for line in ifmdm.json("audit", "--since", "1h")] == [
        "submitted", "claimed", "done", "published"
    ]  # fmt: skip
    ifmdm("gc", "--keep-days", "0", "--yes")
    out = ifmdm("audit").out
    assert ref.id in out
    assert "cleaned up" in out
    assert ifmdm.json("audit", "--verify")["problems"] == []
    (key,) = disk.keys("audit/")
    disk.storage.put(key, b"{}")
    assert "damaged" in ifmdm("audit", "--verify", code=3).out
