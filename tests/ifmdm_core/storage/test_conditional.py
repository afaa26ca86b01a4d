"""Writes and deletions that depend on what is there, races, and answers that never come."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput, NotFound, Unavailable, Unsupported
from ifmdm_core.storage import Storage, open_storage, s3_client
from tests.fault_proxy import Answer, FaultProxy, Lose


def made(path: Path, data: bytes) -> tuple[Path, str]:
    """A local file and its digest: the two things that `place` is given."""
    path.write_bytes(data)
    return path, hashlib.sha256(data).hexdigest()


def etag_of(store: Storage, key: str) -> str:
    item = store.info(key)
    assert item is not None
    return item.etag


def test_put_if_absent_keeps_the_first(store: Storage) -> None:
    assert store.put_if_absent("slot", b"first") is True
    assert store.put_if_absent("slot", b"second") is False
    assert store.get("slot") == b"first"


def test_of_racing_creators_exactly_one_wins_and_its_bytes_stay(store: Storage) -> None:
    for round_ in range(3):
        barrier = threading.Barrier(8)

        def create(writer: int, key: str = f"race/{round_}", barrier: threading.Barrier = barrier) -> bool:
            barrier.wait()
            return store.put_if_absent(key, f"writer {writer}".encode() * 1000)

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(create, range(8)))
        assert sum(won) == 1
        assert store.get(f"race/{round_}") == f"writer {won.index(True)}".encode() * 1000
    assert [item.key for item in store.list()] == [f"race/{n}" for n in range(3)], (
        "temporary files must not show"
    )


def test_only_the_version_that_was_seen_is_deleted(store: Storage) -> None:
    store.put("x", b"one")
    seen = etag_of(store, "x")
    store.put("x", b"two")
    assert store.delete_if("x", seen) is False
    assert store.get("x") == b"two"
    assert store.delete_if("x", etag_of(store, "x")) is True
    assert store.info("x") is None
    assert store.delete_if("x", seen) is True  # absent


def test_every_writing_is_another_version_however_quick(tmp_path: Path) -> None:
    store = open_storage(tmp_path)
    seen = set()
    for _ in range(200):
        store.put("x", b"same")
        seen.add(etag_of(store, "x"))
    assert len(seen) == 200


def test_a_file_is_placed_where_nothing_is(store: Storage, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    video, sha256 = made(tmp_path / "video.mp4", data)
    assert store.place("out/video.mp4", video, sha256) is True
    assert store.get("out/video.mp4") == data
    other = made(tmp_path / "other.mp4", b"other")
    assert store.place("out/video.mp4", *other) is False
    assert store.digest("out/video.mp4") == sha256
    assert [item.key for item in store.list("out/")] == ["out/video.mp4"]


def test_a_file_is_placed_over_the_version_that_was_seen_and_no_other(store: Storage, tmp_path: Path) -> None:
    one, two = made(tmp_path / "1", b"one"), made(tmp_path / "2", b"two")
    store.put("x", b"old")
    seen = etag_of(store, "x")
    assert store.place("x", *one, over=seen) is True
    assert store.place("x", *two, over=seen) is False
    assert store.get("x") == b"one"
    assert store.place("nothing here", *two, over=seen) is False
    assert store.info("nothing here") is None


def test_of_racing_placers_exactly_one_wins(store: Storage, tmp_path: Path) -> None:
    files = [made(tmp_path / str(n), f"writer {n}".encode() * 1000) for n in range(6)]
    barrier = threading.Barrier(6)

    def place(file: tuple[Path, str]) -> bool:
        barrier.wait()
        return store.place("race", *file)

    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(place, files))
    assert sum(won) == 1
    assert store.digest("race") == files[won.index(True)][1]


def test_what_is_placed_may_be_read_as_the_umask_says_and_what_is_kept_is_private(tmp_path: Path) -> None:
    store = open_storage(tmp_path / "folder")
    before = os.umask(0o027)
    try:
        store.place("video.mp4", *made(tmp_path / "local", b"film"))
        store.put("record", b"x")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / "folder" / name).stat().st_mode) for name in ("video.mp4", "record")]
    assert modes == [0o640, 0o600]


def test_placing_an_absent_file_names_it(store: Storage, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no-such-file"):
        store.place("x", tmp_path / "no-such-file", "0" * 64)
    assert store.info("x") is None


def test_a_placed_video_is_served_as_one(flaky_s3: FaultProxy, tmp_path: Path) -> None:
    store = open_storage(f"s3://renders/{tmp_path.name}", flaky_s3.config)
    store.place("v.mp4", *made(tmp_path / "v.mp4", b"1"))
    head = s3_client(flaky_s3.config).head_object(Bucket="renders", Key=f"{tmp_path.name}/v.mp4")
    assert head["ContentType"] == "video/mp4"


def test_a_file_larger_than_one_request_is_refused_before_it_is_sent(
    flaky_s3: FaultProxy, tmp_path: Path
) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate((5 << 30) + 1)
    with pytest.raises(BadInput, match="5 GiB"):
        open_storage("s3://renders", flaky_s3.config).place("huge", tmp_path / "huge", "0" * 64)
    assert flaky_s3.seen == []


def test_a_digest_is_told_without_the_bytes_and_absence_from_ignorance(
    store: Storage, tmp_path: Path
) -> None:
    assert store.digest("x") is None
    store.put("x", b"put")
    known = hashlib.sha256(b"put").hexdigest()
    assert store.digest("x") == ("" if store.root.scheme == "s3" else known)


@pytest.fixture
def proxied(flaky_s3: FaultProxy, tmp_path: Path) -> Storage:
    return open_storage(f"s3://renders/{tmp_path.name}", flaky_s3.config)


@pytest.mark.parametrize(
    "write",
    [
        lambda store, file: store.put_if_absent("x", file[0].read_bytes()),
        lambda store, file: store.place("x", *file),
        lambda store, file: store.place("x", *file, over=etag_of(store, "x")),
    ],
    ids=["put_if_absent", "place", "place over"],
)
def test_a_lost_reply_is_an_open_outcome_and_never_tried_again_in_secret(
    proxied: Storage,
    flaky_s3: FaultProxy,
    tmp_path: Path,
    write: Callable[[Storage, tuple[Path, str]], bool],
    request: pytest.FixtureRequest,
) -> None:
    file = made(tmp_path / "file", b"mine")
    if request.node.callspec.id == "place over":
        proxied.put("x", b"old")
    flaky_s3.seen.clear()
    flaky_s3.add(Lose(), times=1, methods=("PUT",))
    with pytest.raises(Unavailable):
        write(proxied, file)
    assert [method for method, _ in flaky_s3.seen].count("PUT") == 1
    assert proxied.get("x") == b"mine"
    if request.node.callspec.id != "put_if_absent":
        assert proxied.digest("x") == file[1]


def test_a_deletion_whose_reply_is_lost_is_done_all_the_same(proxied: Storage, flaky_s3: FaultProxy) -> None:
    proxied.put("x", b"1")
    seen = etag_of(proxied, "x")
    lost = flaky_s3.add(Lose(), times=1, methods=("DELETE",))
    assert proxied.delete_if("x", seen) is True
    assert lost.times == 0
    assert proxied.info("x") is None


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidArgument")])
def test_a_store_without_conditions_is_looked_at_first(
    proxied: Storage, flaky_s3: FaultProxy, tmp_path: Path, status: int, code: str
) -> None:
    one, two = made(tmp_path / "1", b"one"), made(tmp_path / "2", b"two" * 1000)

    def refusing(act: Callable[[], bool], method: str = "PUT") -> bool:
        rule = flaky_s3.add(Answer(status, code), times=1, methods=(method,))
        done = act()
        assert rule.times == 0
        return done

    assert refusing(lambda: proxied.place("x", *one)) is True
    assert refusing(lambda: proxied.place("x", *two)) is False
    assert refusing(lambda: proxied.place("x", *two, over="0" * 32)) is False
    assert proxied.digest("x") == one[1]
    assert refusing(lambda: proxied.place("x", *two, over=etag_of(proxied, "x"))) is True
    assert proxied.get("x") == b"two" * 1000
    assert refusing(lambda: proxied.delete_if("x", "0" * 32), "DELETE") is False
    assert refusing(lambda: proxied.delete_if("x", etag_of(proxied, "x")), "DELETE") is True
    assert proxied.info("x") is None


def test_a_store_that_cannot_create_exclusively_is_told_from_one_that_fails(
    proxied: Storage, flaky_s3: FaultProxy
) -> None:
    flaky_s3.add(Answer(501, "NotImplemented"))
    with pytest.raises(Unsupported, match="NotImplemented"):
        proxied.put_if_absent("x", b"")


def test_what_is_placed_carries_the_kms_key(flaky_s3: FaultProxy, tmp_path: Path) -> None:
    config = flaky_s3.config.model_copy(update={"kms_key_id": "alias/renders"})
    open_storage(f"s3://renders/{tmp_path.name}", config).place("a", *made(tmp_path / "a", b"1"))
    head = s3_client(config).head_object(Bucket="renders", Key=f"{tmp_path.name}/a")
    assert head["SSEKMSKeyId"].endswith("alias/renders")
