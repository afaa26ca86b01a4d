"""Which jobs are found, in which order, and what ls, show, watch, logs, dead and the steering commands make of them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput, NotFound, Unavailable
from jobs import steer
from jobs.gc import DAY_S, collect
from jobs.listing import Which, find, resolve
from jobs.names import JobRef
from jobs.rendering.contract import Task
from tests.jobs.command_line import Commands
from tests.jobs.small_store import SmallStore
from tests.jobs.test_fsck import everything


@pytest.fixture(params=["folder", "s3"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> SmallStore:
    if request.param == "folder":
        return SmallStore(tmp_path / "store")
    return SmallStore(f"s3://renders/{tmp_path.name}", request.getfixturevalue("s3_config"))


@pytest.fixture
def disk(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


@pytest.fixture
def jobs(disk: SmallStore, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(disk, capsys)


def found(small: SmallStore, **which: object) -> list[JobRef]:
    return [job.ref for job in find(small.store, Which(**which))]  # type: ignore[arg-type]


def dead(small: SmallStore, name: str) -> JobRef:
    """A job whose every attempt fails for a fault of ours."""
    ref = small.submit(name, max_attempts=1)
    small.renderer.faults = lambda task: RuntimeError("boom") if task.id == ref.id else None
    small.work()
    small.renderer.faults = lambda task: None
    assert small.state(ref) == "dead"
    return ref


def test_jobs_of_every_state_are_found_by_it(small: SmallStore) -> None:
    refs = everything(small)
    assert set(found(small)) == set(refs.values())
    for state in ("running", "done", "published", "failed", "cancelled", "suspended"):
        assert found(small, states=frozenset((state,))) == [refs[state]]
    assert found(small, states=frozenset(("queued",))) == [refs["queued"], refs["later"]]


def test_what_runs_is_first_then_what_waits_then_what_ended_last(disk: SmallStore) -> None:
    names = {ref: name for name, ref in everything(disk).items()}
    order = [names[ref] for ref in found(disk)]
    assert set(order[:2]) == {"running", "done"}
    assert order[2:] == ["queued", "later", "suspended", "cancelled", "failed", "published"]


def test_filters_hold_together(disk: SmallStore) -> None:
    disk.let_in("other")
    a = disk.submit("a/1", labels={"team": "red", "batch": "7"})
    b = disk.submit("a/2", labels={"team": "red", "batch": "8"})
    c = disk.submit("b/1", tenant="other", labels={"team": "blue"})
    assert found(disk, labels={"team": "red"}) == [a, b]
    assert found(disk, labels={"team": "red", "batch": "8"}) == [b]
    assert found(disk, output_prefix=disk.uri("out/a")) == [a, b]
    assert found(disk, tenants=("other",)) == [c]
    assert found(disk, text="BLUE") == [c]
    assert found(disk, text=a.id[5:15]) == [a]
    disk.clock.passed += 100
    d = disk.submit("b/2")
    assert found(disk, since_s=50) == [d]
    assert set(found(disk, before_s=50)) == {a, b, c}


def test_no_more_is_read_than_taken(disk: SmallStore) -> None:
    for number in range(40):
        disk.submit(f"{number}")
    reads = 0
    get = disk.storage.get

    def counted(key: str) -> bytes:
        nonlocal reads
        reads += 1
        return get(key)

    disk.storage.get = counted  # type: ignore[method-assign]
    assert len(list(itertools.islice(find(disk.store, Which()), 3))) == 3
    assert reads < 40


def test_damaged_jobs_are_passed_over(disk: SmallStore) -> None:
    bad, good = disk.submit("a"), disk.submit("b")
    disk.storage.put(bad.spec, b"{")
    assert found(disk) == [good]


def test_a_job_is_meant_by_its_first_digits(disk: SmallStore) -> None:
    refs = [disk.submit(f"{number}") for number in range(3)]
    assert resolve(disk.store, "default", refs[0].id) == refs[0]
    assert resolve(disk.store, "default", refs[1].id[:10]) == refs[1]
    assert resolve(disk.store, "other", str(refs[2])) == refs[2]
    disk.storage.put(f"jobs/default/{refs[0].id[:10]}{'0' * 22}/spec.json", b"")
    with pytest.raises(BadInput, match="several jobs"):
        resolve(disk.store, "default", refs[0].id[:10])
    with pytest.raises(NotFound, match="has no job 0000000000"):
        resolve(disk.store, "default", "0000000000")
    for text in ("abc", "job-1", "../etc", "A" * 32):
        with pytest.raises(BadInput):
            resolve(disk.store, "default", text)


def test_ls_says_what_matters(disk: SmallStore, jobs: Commands) -> None:
    refs = everything(disk)
    lines = jobs("ls").out.splitlines()
    assert lines[0].split() == ["id", "state", "for", "output", "labels", "note"]
    assert len(lines) == 1 + len(refs)
    by_id = {line.split()[0]: line for line in lines[1:]}
    assert "BadInput: no face" in by_id[refs["failed"].id]
    assert "not before" in by_id[refs["later"].id]
    limited = jobs("ls", "--limit", "2")
    assert len(limited.out.splitlines()) == 3
    assert "more than 2" in limited.err
    values = jobs.json("ls", "--state", "failed,cancelled")
    assert [job["state"] for job in values["jobs"]] == ["cancelled", "failed"]
    assert values["jobs"][1]["fault"]["what"] == "no face"
    assert not values["more"]
    assert "no state; valid: cancelled" in jobs("ls", "--state", "asleep", code=2).err
    assert "NAME=VALUE" in jobs("ls", "--label", "team", code=2).err


def test_names_from_strangers_do_not_steer_the_terminal(disk: SmallStore, jobs: Commands) -> None:
    disk.submit("a", labels={"team": "\x1b[31mred\n"})
    assert "team=?[31mred?" in jobs("ls").out


def test_show_tells_the_whole_life(disk: SmallStore, jobs: Commands) -> None:
    tries: list[int] = []

    def flaky(task: Task) -> Exception | None:
        tries.append(task.epoch)
        return Unavailable("a stage is away") if len(tries) == 1 else None

    disk.renderer.faults = flaky
    ref = disk.submit("a", labels={"team": "red"}, controls={"steps": 4}, priority=3)
    disk.work()
    disk.clock.passed += 120  # a job that is to come later comes at a whole minute
    disk.worker().sweeper.sweep()
    disk.work()
    said = jobs("show", ref.id[:8]).out
    for text in ("state      published", "team=red", "steps 4", "ann@desk", "attempt 1 failed: a stage is away; tried",
                 "attempt 2 begins", "video made: 40 frames, 1.6 s", "priority 3"):  # fmt: skip
        assert text in said, text
    values = jobs.json("show", ref.id, "--link", "1h")
    assert [moment["kind"] for moment in values["timeline"]] == [
        "submitted", "claimed", "failed", "claimed", "done", "published",
    ]  # fmt: skip
    assert Path(values["link"].removeprefix("file://")).read_bytes() == disk.storage.get("out/a.mp4")
    assert "no video" in jobs("show", disk.submit("b").id, "--link", "1h", code=5).err
    assert "0000" in jobs("show", "0" * 32, code=3).err


def test_show_still_knows_a_job_that_was_cleaned_up(disk: SmallStore, jobs: Commands) -> None:
    ref = disk.submit("a")
    disk.work()
    disk.grow_older(8 * DAY_S)
    collect(disk.store, dry_run=False)
    values = jobs.json("show", ref.id, "--link", "1h")
    assert values["record_only"]
    kinds = [moment["kind"] for moment in values["timeline"]]
    assert kinds == ["submitted", "claimed", "done", "published"], "its record keeps who wrote what"
    assert values["link"].endswith("/out/a.mp4")
    disk.storage.delete("out/a.mp4")
    assert "no more" in jobs("show", ref.id, "--link", "1h", code=3).err


def test_watching_one_job_ends_with_its_exit_code(disk: SmallStore, jobs: Commands) -> None:
    good = disk.submit("a")
    disk.work()
    assert "published" in jobs("watch", good.id).out
    disk.renderer.faults = lambda task: BadInput("no face")
    bad = disk.submit("b")
    disk.work()
    (line,) = jobs("watch", bad.id, "--json", code=2).out.splitlines()
    assert json.loads(line)["note"] == "BadInput: no face"
    assert "needs a terminal" in jobs("watch", code=2).err


def test_logs_of_all_attempts(disk: SmallStore, jobs: Commands) -> None:
    ref = disk.submit("a")
    assert "no log" in jobs("logs", ref.id, code=3).err
    disk.work()
    said = jobs("logs", ref.id, "--follow").out.splitlines()
    assert ["attempt 1  began  epoch=1" in said[0], "decoded  frames=40" in said[1]] == [True, True]
    lines = [json.loads(line) for line in jobs("logs", ref.id, "--json").out.splitlines()]
    assert [line["event"] for line in lines] == ["began", "decoded"]
    assert "no log of attempt 2" in jobs("logs", ref.id, "--attempt", "2", code=3).err


def test_many_are_cancelled_only_when_that_is_meant(disk: SmallStore, jobs: Commands) -> None:
    red = [disk.submit(f"{number}", labels={"team": "red"}) for number in range(3)]
    blue = disk.submit("blue", labels={"team": "blue"})
    assert "would cancel 3 jobs; --yes" in jobs("cancel", "--label", "team=red", code=2).err
    assert "3 jobs to cancel" in jobs("cancel", "--label", "team=red", "--dry-run").out
    assert {disk.state(ref) for ref in red} == {"queued"}
    told = jobs.json("cancel", "--label", "team=red", "--yes")["jobs"]
    assert [job["state"] for job in told] == ["cancelled"] * 3
    assert disk.state(blue) == "queued"
    assert "give ids, or a filter" in jobs("cancel", code=2).err
    assert "do not go together" in jobs("cancel", blue.id, "--state", "queued", code=2).err


def test_the_rest_goes_on_where_one_refuses(disk: SmallStore, jobs: Commands) -> None:
    over = disk.submit("a")
    disk.work()
    waiting = disk.submit("b")
    said = jobs("cancel", over.id, waiting.id, code=5)
    assert "is published and cannot be cancelled now" in said.err
    assert disk.state(waiting) == "cancelled"


def test_suspend_resume_reprioritize_retry(disk: SmallStore, jobs: Commands) -> None:
    ref = disk.submit("a")
    jobs("suspend", ref.id)
    assert disk.state(ref) == "suspended"
    jobs("resume", "--state", "suspended", "--yes")
    assert disk.state(ref) == "queued"
    jobs("reprioritize", ref.id, "--priority", "5")
    assert disk.view(ref).state.priority == 5
    steer.stop(disk.store, ref, "cancel")
    assert "no jobs to retry" in jobs("retry", "--find", "a", "--yes").err  # cancelled on purpose
    jobs("retry", ref.id)
    assert disk.state(ref) == "queued"


def test_dead_jobs_are_told_and_replayed(disk: SmallStore, jobs: Commands) -> None:
    ref = dead(disk, "a")
    said = jobs("dead")
    assert "RuntimeError: boom" in said.out
    assert "1 x IfmdmError" in said.err
    assert "would retry 1 jobs" in jobs("replay", code=2).err
    jobs("replay", "--yes")
    disk.work()
    assert disk.state(ref) == "published"
    assert jobs.json("dead") == {"jobs": [], "more": False}


def test_gc_and_fsck_from_the_command_line(disk: SmallStore, jobs: Commands) -> None:
    ref = disk.submit("a")
    disk.work()
    disk.grow_older(8 * DAY_S)
    assert "would remove" in jobs("gc").out
    assert not disk.view(ref).final
    assert jobs.json("gc", "--yes", "--all")["jobs"] == 1
    assert disk.view(ref).final
    lost = disk.submit("b")
    for key in disk.keys("queue/"):
        disk.storage.delete(key)
    assert "waits without a marker" in jobs("fsck", code=5).out
    assert jobs.json("fsck", "--repair", "--quick")["findings"][0]["mended"]
    assert "0 findings" in jobs("fsck").out
    disk.work()
    assert disk.state(lost) == "published"
