"""What fsck finds, what it mends, what it leaves to people."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput, Forbidden
from ifmdm_core.storage import FolderStorage
from ifmdm_core.uri import Uri
from jobs import entries, steer
from jobs.entries import Video
from jobs.fsck import Fsck, Report, repair, repair_when_due
from jobs.gc import DAY_S, collect
from jobs.names import JobRef, Marker
from jobs.scheduler import Scheduler
from jobs.store import JobStore
from jobs.sweeper import Sweeper
from tests.benchmarks.counted_storage import GET, CountedStorage, Requests
from tests.jobs.small_store import SmallStore


@pytest.fixture(params=["folder", "s3"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> SmallStore:
    if request.param == "folder":
        return SmallStore(tmp_path / "store")
    return SmallStore(f"s3://renders/{tmp_path.name}", request.getfixturevalue("s3_config"))


@pytest.fixture
def disk(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


def look(small: SmallStore, deep: bool = True) -> dict[str, str]:
    """What is found, by where."""
    return {
        finding.where: finding.what for finding in Fsck(small.store, small.places, deep=deep).run().findings
    }


def mend(small: SmallStore, deep: bool = False) -> Report:
    report = Fsck(small.store, small.places, mend=True, deep=deep).run()
    assert report.left == []
    return report


def done_but_not_published(small: SmallStore) -> JobRef:
    """Its worker died right after the verdict."""
    ref = small.submit("done")
    claim = Scheduler(small.worker("gone").store).next(alone=True)
    assert claim is not None
    assert claim.ref == ref
    data = b"a video"
    digest = hashlib.sha256(data).hexdigest()
    video = Video(epoch=1, key=f"{ref.attempt(1)}/video.mp4", sha256=digest, size=7, frames=1, fps=25)
    small.storage.put(video.key, data)
    small.store.append(ref, 2, "done", entries.done(claim.state, video, {}, small.clock.now()))
    return ref


def everything(small: SmallStore) -> dict[str, JobRef]:
    """A job in every state."""
    refs = {"done": done_but_not_published(small)}
    refs["running"] = small.submit("running")
    assert Scheduler(small.worker("busy").store).next(alone=True) is not None
    refs["published"] = small.submit("published")
    small.work()
    refs["failed"] = small.submit("failed")
    small.renderer.faults = lambda task: BadInput("no face")
    small.work()
    small.renderer.faults = lambda task: None
    for state in ("cancelled", "suspended"):
        refs[state] = small.submit(state)
        steer.stop(small.store, refs[state], "cancel" if state == "cancelled" else "suspend")
    refs["later"] = small.submit("later", not_before=small.clock.now() + 3600)
    refs["queued"] = small.submit("queued")
    return refs


def test_a_store_as_it_should_be_has_no_findings(small: SmallStore) -> None:
    everything(small)
    assert look(small) == {}
    small.storage.delete("out/published.mp4")  # that is the user's matter
    small.grow_older(8 * DAY_S)
    collect(small.store, dry_run=False)
    assert look(small) == look(small, deep=False) == {}


def test_jobs_that_have_ended_are_listed_and_not_read(small: SmallStore) -> None:
    for name in "abc":
        small.submit(name)
    small.work()
    requests = Requests()
    store = JobStore(CountedStorage(small.storage, requests), "looks")
    assert Fsck(store, small.places).run().jobs == 3
    assert requests.folders["jobs"] == 1  # a listing of all of them
    assert requests.kinds[GET] < 3  # the store's clock


def test_a_retried_job_without_a_marker_is_found_though_it_is_listed_as_ended(small: SmallStore) -> None:
    small.renderer.faults = lambda task: BadInput("no face")
    ref = small.submit("again")
    small.work()
    ended = small.keys("ended/")
    steer.retry(small.store, ref)
    for key in small.keys("queue/"):
        small.storage.delete(key)
    small.storage.put(ended[0], b"")  # by a worker that was slow to say so
    assert "without a marker" in look(small, deep=False)[str(ref)]


def test_all_hints_may_go_and_everything_ends(small: SmallStore) -> None:
    refs = everything(small)
    for prefix in ("queue/", "later/", "running/", "ended/", "workers/"):
        for key in small.keys(prefix):
            small.storage.delete(key)
    found = look(small)
    assert {state for state, ref in refs.items() if str(ref) in found} == set(refs)
    assert "without a marker" in found[str(refs["queued"])]
    assert "without a hint" in found[str(refs["running"])]
    assert "not published" in found[str(refs["done"])]
    assert small.keys("queue/") == small.keys("running/") == []  # only looked at
    mend(small)
    assert mend(small).findings == []
    assert small.state(refs["done"]) == "published"
    assert small.storage.get("out/done.mp4") == b"a video"
    assert len(small.keys("ended/")) == 5
    Sweeper(small.store, small.places).sweep()  # the worker of the running one is gone
    small.clock.passed += 7200
    Sweeper(small.store, small.places).sweep()
    small.work()
    assert [small.state(refs[name]) for name in ("running", "later", "queued")] == ["published"] * 3
    assert look(small) == {}


def test_logs_are_reported_and_never_touched(disk: SmallStore) -> None:
    gap, last, middle, spec, bare = (disk.submit(name) for name in "abcde")
    disk.work()
    disk.storage.delete(gap.log(2))
    disk.storage.put(last.log(3), b"{")
    disk.storage.put(middle.log(1), b"no entry")
    disk.storage.put(spec.spec, b"{}")
    disk.storage.delete(bare.spec)
    disk.storage.put(f"{middle.folder}notes.txt", b"")
    disk.storage.put("jobs/readme.txt", b"")
    disk.storage.put("queue/default/hello", b"")
    before = disk.keys("jobs/")
    found = look(disk)
    assert "gap: [1, 3]" in found[str(gap)]
    assert f"{last.log(3)} is damaged" in found[str(last)]
    assert f"{middle.log(1)} is damaged" in found[str(middle)]
    assert f"{spec.spec} is damaged" in found[str(spec)]
    assert found[str(bare)] == "has no spec.json"
    strangers = [f"{middle.folder}notes.txt", "jobs/readme.txt", "queue/default/hello"]
    assert [found[key] for key in strangers] == ["a name that is none of ifmdm's"] * 3
    report = Fsck(disk.store, disk.places, mend=True, deep=True).run()
    assert not any(finding.mended for finding in report.findings)
    assert disk.keys("jobs/") == before
    disk.work()  # nobody claims any of it
    assert disk.keys("jobs/") == before


def test_markers_that_lead_nowhere_go_when_they_are_old(disk: SmallStore) -> None:
    published = disk.submit("a")
    disk.work()
    nobody = JobRef("default", "0" * 32)
    keys = [Marker("0" * 14, ref, seq).key for ref, seq in ((published, 1), (published, 3), (nobody, 0))]
    for key in keys:
        disk.storage.put(key, b"")
    assert list(look(disk)) == [keys[0]]  # the others may belong to somebody at work
    disk.grow_older(3601, "queue/")
    assert sorted(look(disk)) == sorted(keys)
    mend(disk)
    assert disk.keys("queue/") == []


def test_a_wish_without_a_marker_is_granted(disk: SmallStore) -> None:
    class NoLogs(FolderStorage):
        def put_if_absent(self, key: str, data: bytes) -> bool:
            if "/log/" in key:
                raise Forbidden(f"{key} is refused")
            return super().put_if_absent(key, data)

    ref = disk.submit("a")
    steer.stop(disk.store, ref, "suspend")
    steer.resume(JobStore(NoLogs(Uri.parse(disk.storage.root.path)), "bob", disk.clock), ref)
    for key in disk.keys("queue/"):
        disk.storage.delete(key)
    repair(disk.store, disk.places)
    assert disk.state(ref) == "queued"
    assert len(disk.keys("queue/")) == 1


def test_a_record_that_was_half_removed_goes(disk: SmallStore) -> None:
    ref = disk.submit("a")
    disk.work()
    disk.grow_older(8 * DAY_S)
    collect(disk.store, dry_run=False)
    disk.storage.delete(ref.spec)
    assert "half removed" in look(disk)[str(ref)]
    mend(disk)
    assert disk.keys(ref.folder) == []


def test_rights_to_publish_without_a_job_are_reported_when_old(disk: SmallStore) -> None:
    ref = disk.submit("a")
    (holder,) = disk.keys("outputs/")
    for key in (ref.spec, *disk.keys("queue/")):
        disk.storage.delete(key)
    assert look(disk) == {}
    disk.grow_older(3601, "outputs/")
    assert "is not there" in look(disk)[holder]
    assert look(disk, deep=False) == {}
    disk.storage.put(holder, b"?")
    assert "damaged" in look(disk)[holder]


def test_a_lost_right_to_publish_is_taken_again(disk: SmallStore) -> None:
    disk.submit("a")
    (holder,) = disk.keys("outputs/")
    disk.storage.delete(holder)
    mend(disk, deep=True)
    assert disk.keys("outputs/") == [holder]


def test_workers_take_turns(disk: SmallStore) -> None:
    assert repair_when_due(disk.store, disk.places, 3600) is not None
    assert repair_when_due(disk.store, disk.places, 3600) is None
    disk.grow_older(3601, "_fsck.json")
    assert repair_when_due(disk.store, disk.places, 3600) is not None
