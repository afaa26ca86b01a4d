"""Jobs from Python: local files, many at once, waiting and steering."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput, Conflict, Expired, Forbidden, IfmdmError, NotFound
from ifmdm_core.storage import S3Config
from jobs.client import JobClient, writer_name
from jobs.many import each_of
from jobs.submit import Submitted
from jobs.uploads import Uploads
from jobs.waiting import wait_all
from tests.jobs.small_store import SmallStore


@pytest.fixture
def disk(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


@pytest.fixture
def bucket(tmp_path: Path, s3_config: S3Config) -> SmallStore:
    return SmallStore(f"s3://renders/{tmp_path.name}", s3_config)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ann.png and ann.wav, which is the current one."""
    folder = tmp_path / "desk"
    folder.mkdir()
    (folder / "ann.png").write_bytes(b"a picture")
    (folder / "ann.wav").write_bytes(b"a voice")
    monkeypatch.chdir(folder)
    return folder


def client_of(small: SmallStore, s3: S3Config | None = None, tenant: str = "default") -> JobClient:
    return JobClient(small.storage.root, tenant, s3, clock=small.clock)


def fields(small: SmallStore, name: str = "a") -> dict[str, str]:
    return {
        "portrait": small.uri("in/ann.png"),
        "audio": small.uri("in/ann.wav"),
        "output": small.uri(f"out/{name}.mp4"),
    }


def test_no_store_and_no_tenant_are_told(tmp_path: Path, disk: SmallStore) -> None:
    with pytest.raises(NotFound, match="ifmdm jobs init"):
        JobClient(tmp_path / "nothing")
    with pytest.raises(Forbidden, match="'nobody' is not known"):
        client_of(disk, tenant="nobody").submit(**fields(disk))


def test_a_job_is_given_whole_or_by_fields(disk: SmallStore) -> None:
    client = client_of(disk)
    first = client.submit(fields(disk))
    assert client.submit(**fields(disk)).ref == first.ref
    for wrong in ({"job": fields(disk), "priority": 3}, {}):
        with pytest.raises(BadInput, match="whole and by fields"):
            client.submit(**wrong)  # type: ignore[arg-type]


def test_in_a_folder_paths_become_whole(disk: SmallStore, files: Path) -> None:
    disk.let_in("default", inputs=(str(files),), outputs=(str(files),))
    client = client_of(disk)
    done = client.submit(portrait="ann.png", audio="./ann.wav", output="out/ann.mp4")
    job = disk.store.record(done.ref).job
    assert (job.portrait, job.audio) == (str(files / "ann.png"), str(files / "ann.wav"))
    assert job.output == str(files / "out" / "ann.mp4")
    assert disk.keys("uploads/") == []
    disk.work()
    assert (files / "out" / "ann.mp4").is_file()


def test_into_a_bucket_files_are_uploaded_once(bucket: SmallStore, s3_config: S3Config, files: Path) -> None:
    client = client_of(bucket, s3_config)
    refs = set()
    for name in ("a", "b"):
        done = client.submit(
            portrait="ann.png", audio=str(files / "ann.wav"), output=bucket.uri(f"out/{name}.mp4")
        )
        refs.add(done.ref)
        job = bucket.store.record(done.ref).job
        assert job.portrait.startswith(bucket.uri("uploads/default"))
        assert job.portrait.endswith(".png")
    assert len(refs) == 2
    assert len(bucket.keys("uploads/default/")) == 2
    bucket.work()
    assert all(bucket.state(ref) == "published" for ref in refs)


def test_an_upload_leaves_what_is_there_alone_and_follows_changes(bucket: SmallStore, files: Path) -> None:
    uploads = Uploads(bucket.storage, "default")
    first = uploads.uri("ann.wav")
    key = first.removeprefix(f"{bucket.storage.root}/")
    before = bucket.storage.info(key)
    assert Uploads(bucket.storage, "default").uri("ann.wav") == first
    assert bucket.storage.info(key) == before
    (files / "ann.wav").write_bytes(b"another take")
    os.utime("ann.wav", ns=(1, 1))
    assert uploads.uri("ann.wav") != first
    assert Uploads(bucket.storage, "default").uri("ann.wav", send=False) == uploads.uri("ann.wav")


def test_threads_upload_a_file_once(bucket: SmallStore, files: Path) -> None:
    uploads, uris = Uploads(bucket.storage, "default"), []
    threads = [threading.Thread(target=lambda: uris.append(uploads.uri("ann.png"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(uris) == 8
    assert len(set(uris)) == 1


@pytest.mark.parametrize(
    ("field", "value", "kind", "says"),
    [
        ("portrait", "nobody.png", NotFound, "portrait 'nobody.png': no such file"),
        ("audio", ".", BadInput, "audio"),
        ("output", "out.mp4", BadInput, "local path"),
    ],
)
def test_files_that_cannot_be_are_named(
    bucket: SmallStore,
    s3_config: S3Config,
    files: Path,
    field: str,
    value: str,
    kind: type[IfmdmError],
    says: str,
) -> None:
    with pytest.raises(kind, match=says) as error:
        client_of(bucket, s3_config).submit({**fields(bucket), field: value})
    assert error.value.field == field


def test_many_are_submitted_side_by_side_and_bad_ones_come_back(disk: SmallStore) -> None:
    def jobs() -> list[dict[str, str]]:
        made = [fields(disk, str(number)) for number in range(40)]
        made[7]["audio"] = disk.uri("in/nobody.wav")
        made[9]["output"] = "x.mov"
        return made

    found = dict(client_of(disk).submit_many(jobs(), workers=8))
    assert sorted(found) == list(range(40))
    assert isinstance(found[7], NotFound)
    assert isinstance(found[9], BadInput)
    assert sum(isinstance(result, Submitted) and result.created for result in found.values()) == 38
    again = dict(client_of(disk).submit_many(jobs()))
    assert sum(isinstance(result, Submitted) and not result.created for result in again.values()) == 38


def test_no_more_is_read_than_is_worked_on() -> None:
    read = 0

    def endless() -> Iterator[tuple[int, int]]:
        nonlocal read
        while True:
            read += 1
            yield read, read

    broke: list[bool] = []
    results = each_of(endless(), lambda n: n, 2, lambda: broke.append(True))
    for done, _ in enumerate(results, 1):
        assert read <= done + 8 + 1
        if done == 50:
            break
    results.close()
    assert broke == [True]


def test_waiting_ends_with_the_job(disk: SmallStore) -> None:
    client = client_of(disk)
    done = client.submit(**fields(disk))
    with pytest.raises(Expired, match="queued"):
        client.wait(done.ref.id, timeout_s=20)
    views = client.states(done.ref.id)
    assert next(views).state.state == "queued"
    disk.work()
    *_, last = views
    assert last.state.state == "published"
    assert client.wait(done.ref.id).seq == last.seq


def test_waiting_for_many_misses_none_whose_hint_is_gone(disk: SmallStore) -> None:
    client = client_of(disk)
    made = dict(client.submit_many(fields(disk, str(number)) for number in range(60)))
    ids = [result.ref.id for result in made.values() if isinstance(result, Submitted)]
    disk.work()
    for key in disk.keys("ended/")[::3]:
        disk.storage.delete(key)
    found = [view.ref.id for view in wait_all(client, ids)]
    assert sorted(found) == sorted(ids)
    waiting = client.submit(**fields(disk, "late"))
    with pytest.raises(Expired, match="1 jobs"):
        list(wait_all(client, [*ids, waiting.ref.id], timeout_s=100))


def test_jobs_are_steered(disk: SmallStore) -> None:
    client = client_of(disk)
    id = client.submit(**fields(disk)).ref.id
    assert client.reprioritize(id, 5).state.priority == 5
    assert client.suspend(id).state.state == "suspended"
    assert client.resume(id).state.state == "queued"
    assert client.cancel(id).state.state == "cancelled"
    assert client.retry(id).state.state == "queued"
    with pytest.raises(Conflict):
        client.retry(client.suspend(id).ref.id)
    with pytest.raises(BadInput, match="is no job"):
        client.get("../x")


@pytest.mark.parametrize(
    ("text", "name"), [("Ann Smith@desk", "Ann-Smith@desk"), ("a/b", "a-b"), ("..", "user"), ("ü", "-")]
)
def test_writers_have_names_that_keys_may_hold(text: str, name: str) -> None:
    assert writer_name(text) == name
