"""One contract, two stores: a folder, and S3 spoken over real HTTP to moto's server."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ifmdm_core import storage
from ifmdm_core.errors import BadInput, Forbidden, NotFound, Unavailable
from ifmdm_core.storage import S3Config, Storage, open_storage, s3_client


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    names = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def s3_config(s3_endpoint: str) -> S3Config:
    config = S3Config(endpoint=s3_endpoint, region="us-east-1")
    s3_client(config).create_bucket(Bucket="renders")
    return config


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return open_storage(tmp_path / "store")
    return open_storage(f"s3://renders/{tmp_path.name}", request.getfixturevalue("s3_config"))


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


def test_delete_removes_and_is_idempotent(store: Storage) -> None:
    store.put("x", b"1")
    store.delete("x")
    store.delete("x")
    with pytest.raises(NotFound):
        store.get("x")


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


def test_list_is_by_prefix_and_in_byte_order(store: Storage) -> None:
    for key in ("log/10", "log/2", "log/1/x", "logs", "Log/1", "log/é", "other"):
        store.put(key, key.encode())
    assert [item.key for item in store.list("log/")] == ["log/1/x", "log/10", "log/2", "log/é"]
    assert [item.key for item in store.list("log")] == ["log/1/x", "log/10", "log/2", "log/é", "logs"]
    assert list(store.list("nothing/")) == []


def test_listing_goes_past_one_page(
    s3_config: S3Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "LIST_PAGE", 3)
    store = open_storage(f"s3://renders/{tmp_path.name}-pages", s3_config)
    for number in range(10):
        store.put(f"k/{number:05d}", b"")
    assert [item.key for item in store.list("k/")] == [f"k/{number:05d}" for number in range(10)]


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


_keys = st.lists(st.sampled_from(["a", "b", "ab", "é", "0"]), min_size=1, max_size=2).map("/".join)
_steps = st.lists(
    st.tuples(st.sampled_from(["put", "put_if_absent", "delete"]), _keys, st.binary(max_size=4)), max_size=12
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_steps)
def test_a_folder_behaves_as_a_dictionary(
    steps: list[tuple[str, str, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = open_storage(tmp_path_factory.mktemp("model"))
    model: dict[str, bytes] = {}
    for action, key, data in steps:
        if any(key.startswith(other + "/") or other.startswith(key + "/") for other in model):
            continue  # a folder cannot hold both a and a/b; refused, tested above
        if action == "put":
            store.put(key, data)
            model[key] = data
        elif action == "put_if_absent":
            assert store.put_if_absent(key, data) is (key not in model)
            model.setdefault(key, data)
        elif key in model:
            store.delete(key)
            del model[key]
            break  # the emptied folders stay, which a dictionary has no word for
    assert {item.key: store.get(item.key) for item in store.list()} == model
