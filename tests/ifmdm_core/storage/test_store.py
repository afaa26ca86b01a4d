"""One contract, two stores: a folder, and S3 spoken over real HTTP to moto's server."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ifmdm_core.errors import BadInput, DiskFull, Forbidden, NotFound, Unavailable
from ifmdm_core.storage import S3Config, Storage, arrow_filesystem, open_storage, s3, s3_client
from ifmdm_core.storage.faults import disk_errors
from tests.fault_proxy import Answer, Before, Cut, FaultProxy


def test_what_is_put_is_got_and_overwritten(store: Storage) -> None:
    store.put("a/b.bin", b"one")
    store.put("a/b.bin", b"two\0\xff")
    assert store.get("a/b.bin") == b"two\0\xff"


def test_an_empty_object_is_an_object(store: Storage) -> None:
    store.put("empty", b"")
    assert store.get("empty") == b""
    assert [(item.key, item.size) for item in store.list()] == [("empty", 0)]


def test_getting_what_is_absent_is_not_found_and_names_it(store: Storage) -> None:
    with pytest.raises(NotFound, match="no/such"):
        store.get("no/such")


def test_the_start_of_an_object_is_read_alone(store: Storage) -> None:
    store.put("x", b"0123456789")
    store.put("empty", b"")
    assert [store.start("x", 4), store.start("x", 99), store.start("empty", 4)] == [
        b"0123",
        b"0123456789",
        b"",
    ]
    with pytest.raises(NotFound, match="no/such"):
        store.start("no/such", 4)


def test_delete_removes_and_is_idempotent(store: Storage) -> None:
    store.put("x", b"1")
    store.delete("x")
    store.delete("x")
    with pytest.raises(NotFound):
        store.get("x")


@pytest.mark.parametrize("key", ["", "/abs", "a//b", "a/../b", ".", "a/", "nul\0", "back\\slash", "x" * 300])
def test_keys_that_mean_different_things_elsewhere_are_refused(store: Storage, key: str) -> None:
    with pytest.raises(BadInput):
        store.put(key, b"")


def test_a_key_cannot_run_through_an_object(tmp_path: Path) -> None:
    store = open_storage(tmp_path)
    store.put("a", b"")
    with pytest.raises(BadInput):
        store.put("a/b", b"")


def test_a_link_out_of_the_folder_is_forbidden(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "link").symlink_to(tmp_path / "outside")
    store = open_storage(tmp_path / "store")
    with pytest.raises(Forbidden):
        store.put("link/x", b"")
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_missing_bucket_is_not_found(s3_config: S3Config) -> None:
    with pytest.raises(NotFound, match="NoSuchBucket"):
        open_storage("s3://absent-bucket", s3_config).put("a", b"")


def test_absent_keys_cost_one_request_each_once_the_bucket_is_known(flaky_s3: FaultProxy) -> None:
    store = open_storage("s3://renders/absent", flaky_s3.config)
    assert store.info("a") is None
    before = len(flaky_s3.seen)
    assert [store.info("b"), store.age("c"), store.digest("d")] == [None, None, None]
    assert [method for method, _ in flaky_s3.seen[before:]] == ["HEAD"] * 3


def test_a_store_that_does_not_answer_is_unavailable(s3_config: S3Config) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = s3_config.model_copy(update={"endpoint": f"http://127.0.0.1:{port}"})
    with pytest.raises(Unavailable):
        open_storage("s3://renders", config).put_if_absent("a", b"")


def test_an_unknown_profile_is_named(s3_config: S3Config) -> None:
    with pytest.raises(BadInput, match="nobody"):
        open_storage("s3://renders", s3_config.model_copy(update={"profile": "nobody"}))


def test_what_is_written_carries_the_kms_key(s3_config: S3Config, tmp_path: Path) -> None:
    config = s3_config.model_copy(update={"kms_key_id": "alias/renders"})
    open_storage(f"s3://renders/{tmp_path.name}", config).put("a", b"")
    head = s3_client(config).head_object(Bucket="renders", Key=f"{tmp_path.name}/a")
    assert head["ServerSideEncryption"] == "aws:kms"
    assert head["SSEKMSKeyId"].endswith("alias/renders")


def test_files_go_up_and_come_down_whole(store: Storage, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "shard.arrow").write_bytes(data)
    store.upload("clips/a b é.arrow", tmp_path / "shard.arrow")
    store.fetch("clips/a b é.arrow", tmp_path / "new" / "copy.arrow")
    assert (tmp_path / "new" / "copy.arrow").read_bytes() == data == store.get("clips/a b é.arrow")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["copy.arrow"]
    local = store.local_path("clips/a b é.arrow")
    assert local is None if store.root.scheme == "s3" else local.read_bytes() == data


def test_a_large_file_goes_up_in_parts(
    s3_config: S3Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PART_SIZE", 5 << 20)  # the smallest part that S3 takes
    data = os.urandom(12_000_000)
    (tmp_path / "big").write_bytes(data)
    store = open_storage(f"s3://renders/{tmp_path.name}", s3_config)
    store.upload("big", tmp_path / "big")
    assert store.get("big") == data
    assert store.info("big").etag.endswith("-3")  # parts


def test_info_tells_size_and_changes_with_the_content(store: Storage) -> None:
    assert store.info("x") is None
    store.put("x", b"one")
    first = store.info("x")
    store.put("x", b"three")
    second = store.info("x")
    assert (first.size, second.size) == (3, 5)
    assert first.etag != second.etag
    assert [item.etag for item in store.list()] == [second.etag]


def test_fetching_what_is_absent_leaves_no_file(store: Storage, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    with pytest.raises(NotFound, match="no/such"):
        store.fetch("no/such", tmp_path / "here" / "copy")
    assert list((tmp_path / "here").iterdir()) == []


def test_uploading_an_absent_file_names_it_and_changes_nothing(store: Storage, tmp_path: Path) -> None:
    store.put("x", b"old")
    with pytest.raises(NotFound, match="no-such-file"):
        store.upload("x", tmp_path / "no-such-file")
    assert store.get("x") == b"old"


def test_a_missing_bucket_is_named_whatever_is_asked(s3_config: S3Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    store = open_storage("s3://absent-bucket/deep", s3_config)
    for ask in (
        lambda: store.get("a"),
        lambda: store.info("a"),
        lambda: store.fetch("a", tmp_path / "copy"),
        lambda: store.upload("a", tmp_path / "file"),
        lambda: list(store.list()),
    ):
        with pytest.raises(NotFound, match=r"no bucket 'absent-bucket'.*create it"):
            ask()


def test_a_download_that_breaks_goes_on_where_it_stopped(flaky_s3: FaultProxy, tmp_path: Path) -> None:
    data = os.urandom(3_500_000)
    store = open_storage(f"s3://renders/{tmp_path.name}", flaky_s3.config)
    store.put("video", data)
    cuts = flaky_s3.add(Cut(1_200_000), times=3, methods=("GET",))
    store.fetch("video", tmp_path / "video")
    assert (tmp_path / "video").read_bytes() == data
    assert cuts.times == 0


def test_a_download_that_always_breaks_is_unavailable_and_leaves_no_file(
    flaky_s3: FaultProxy, tmp_path: Path
) -> None:
    store = open_storage(f"s3://renders/{tmp_path.name}", flaky_s3.config)
    store.put("video", os.urandom(100_000))
    flaky_s3.add(Cut(0), methods=("GET",))
    (tmp_path / "here").mkdir()
    with pytest.raises(Unavailable, match="video"):
        store.fetch("video", tmp_path / "here" / "video")
    assert list((tmp_path / "here").iterdir()) == []


def test_an_object_overwritten_during_its_download_is_never_a_mixture(
    flaky_s3: FaultProxy, s3_config: S3Config, tmp_path: Path
) -> None:
    store = open_storage(f"s3://renders/{tmp_path.name}", flaky_s3.config)
    store.put("video", b"a" * 3_000_000)
    direct = open_storage(f"s3://renders/{tmp_path.name}", s3_config)
    flaky_s3.add(Cut(2_000_000), times=1, methods=("GET",))
    flaky_s3.add(Before(lambda: direct.put("video", b"b" * 3_000_000)), times=1, methods=("GET",))
    with pytest.raises(Unavailable, match="overwritten"):
        store.fetch("video", tmp_path / "video")
    assert not (tmp_path / "video").exists()


def test_a_store_that_slows_down_for_a_moment_is_waited_for(flaky_s3: FaultProxy, tmp_path: Path) -> None:
    store = open_storage(f"s3://renders/{tmp_path.name}", flaky_s3.config)
    faults = flaky_s3.add(Answer(503), times=2)
    store.put("x", b"1")
    assert faults.times == 0
    assert store.get("x") == b"1"


def test_a_full_disk_is_told_from_a_silent_store(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the child may write 1 MB, the object has 2."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "big").write_bytes(bytes(2_000_000))
    code = f"""
        import resource
        from pathlib import Path
        from ifmdm_core.errors import DiskFull
        from ifmdm_core.storage import open_storage

        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        here = Path({str(tmp_path)!r})
        store = open_storage(here / "store")
        for action in (
            lambda: store.fetch("big", here / "copy"),
            lambda: store.upload("again", here / "store" / "big"),
            lambda: store.put("again", bytes(2_000_000)),
        ):
            try:
                action()
            except DiskFull as error:
                print(error)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )
    lines = done.stdout.splitlines()
    assert [line.split("'")[1] for line in lines] == [str(tmp_path / "copy"), "again", "again"], done.stderr
    assert all("free some space" in line for line in lines)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["big", "store"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_and_no_quota_are_a_full_disk(code: int) -> None:
    with pytest.raises(DiskFull, match="'shard'"), disk_errors("shard"):
        raise OSError(code, os.strerror(code))


def test_pyarrow_reads_with_the_same_settings(s3_config: S3Config, tmp_path: Path) -> None:
    open_storage(f"s3://renders/{tmp_path.name}", s3_config).put("x", b"arrow")
    with arrow_filesystem(s3_config).open_input_file(f"renders/{tmp_path.name}/x") as file:
        assert file.read() == b"arrow"


def test_ages_are_told_from_when_a_key_was_written(store: Storage) -> None:
    assert store.age("x") is None
    store.put("x", b"")
    age = store.age("x")
    assert age is not None
    assert -1 <= age < 600


def test_the_age_of_a_file_follows_the_disks_times_alone(tmp_path: Path) -> None:
    store = open_storage(tmp_path)
    store.put("a/x", b"")
    written = (tmp_path / "a" / "x").stat().st_mtime
    os.utime(tmp_path / "a" / "x", (written, written - 1000))
    older = store.age("a/x")
    os.utime(tmp_path / "a" / "x", (written, written + 1000))
    newer = store.age("a/x")
    assert older is not None
    assert newer is not None
    assert 1000 <= older < 1600
    assert -1000 <= newer < -400
    store.put("a/x", b"")  # a clock that was wrong and has been set right is forgotten
    assert -1 <= store.age("a/x") < 600
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "x"]


def test_a_signed_url_opens_without_credentials(store: Storage) -> None:
    store.put("out/é video.mp4", b"bytes")
    with urllib.request.urlopen(store.presigned("out/é video.mp4", 60)) as reply:
        assert reply.read() == b"bytes"


@pytest.mark.parametrize("seconds", [0, 604_801])
def test_a_url_is_not_signed_for_ever(store: Storage, seconds: int) -> None:
    with pytest.raises(BadInput, match="604800"):
        store.presigned("x", seconds)


def test_signed_urls_name_the_region_and_the_newer_signature(s3_config: S3Config) -> None:
    """boto's own defaults for URLs, the global endpoint and version 2, fail in most regions and with KMS."""
    url = urlsplit(open_storage("s3://renders", S3Config(region="eu-central-1")).presigned("x", 60))
    assert url.netloc == "renders.s3.eu-central-1.amazonaws.com"
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in url.query
    assert "X-Amz-Expires=60" in url.query


def test_a_store_says_whether_it_keeps_old_versions(
    store: Storage, flaky_s3: FaultProxy, s3_config: S3Config
) -> None:
    assert store.versioned() is False
    s3_client(s3_config).create_bucket(Bucket="versions")
    s3_client(s3_config).put_bucket_versioning(
        Bucket="versions", VersioningConfiguration={"Status": "Enabled"}
    )
    versions = open_storage("s3://versions", flaky_s3.config)
    assert versions.versioned() is True
    for status, code in ((403, "AccessDenied"), (501, "NotImplemented")):
        flaky_s3.add(Answer(status, code), times=1)
        assert versions.versioned() is None
