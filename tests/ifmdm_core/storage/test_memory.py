"""The bucket in memory behaves as the real stores do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifmdm_core.errors import NotFound
from ifmdm_core.storage import Storage, open_storage
from ifmdm_core.storage.memory import Bucket, MemoryStorage, Op, sha256_of


@pytest.fixture(params=["folder", "s3", "memory", "memory, small pages"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return open_storage(tmp_path / "store")
    if request.param == "s3":
        return open_storage(f"s3://renders/{tmp_path.name}", request.getfixturevalue("s3_config"))
    return MemoryStorage(Bucket("renders"), "a/prefix", page=1000 if request.param == "memory" else 2)


def test_the_first_to_create_a_key_has_it(store: Storage) -> None:
    assert store.put_if_absent("slot", b"first")
    assert not store.put_if_absent("slot", b"second")
    assert store.get("slot") == b"first"
    store.delete("slot")
    store.delete("slot")
    assert store.put_if_absent("slot", b"third")
    with pytest.raises(NotFound, match="nowhere"):
        store.get("nowhere")


def test_listings_are_in_order_limited_and_by_folder(store: Storage) -> None:
    keys = ["a/1", "a/b/2", "a-/3", "b", "a/b-c/4", "a/b/1", "é"]
    for key in keys:
        store.put(key, key.encode())
    assert [item.key for item in store.list()] == sorted(keys, key=str.encode)
    assert [item.key for item in store.list("a/b")] == ["a/b-c/4", "a/b/1", "a/b/2"]
    assert [item.key for item in store.list("a/", limit=2)] == ["a/1", "a/b-c/4"]
    assert list(store.list("a/", limit=0)) == []
    assert store.folders() == ["a", "a-"]
    assert store.folders("a/") == ["b", "b-c"]
    assert store.folders("none/") == []
    assert store.start("a/b-c/4", 3) == b"a/b"


def test_versions_are_told_apart(store: Storage, tmp_path: Path) -> None:
    assert store.info("x") is None
    assert store.age("x") is None
    store.put("x", b"one")
    first = store.info("x")
    assert first is not None
    assert first.size == 3
    store.put("x", b"two")
    assert not store.delete_if("x", first.etag)
    second = store.info("x")
    assert second is not None
    assert store.delete_if("x", second.etag)
    assert store.delete_if("x", second.etag)
    assert store.info("x") is None


def test_a_file_is_placed_once_or_over_the_version_that_was_seen(store: Storage, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"one")
    two.write_bytes(b"two")
    assert store.digest("film.mp4") is None
    assert store.place("film.mp4", one, sha256_of(b"one"))
    assert not store.place("film.mp4", two, sha256_of(b"two"))
    assert store.digest("film.mp4") == sha256_of(b"one")
    seen = store.info("film.mp4")
    assert seen is not None
    assert store.place("film.mp4", two, sha256_of(b"two"), seen.etag)
    assert not store.place("film.mp4", one, sha256_of(b"one"), seen.etag)
    assert store.digest("film.mp4") == sha256_of(b"two")
    store.delete("film.mp4")
    assert not store.place("film.mp4", one, sha256_of(b"one"), seen.etag)
    store.upload("film.mp4", one)
    store.fetch("film.mp4", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"one"


def test_ages_are_told_by_the_store_in_whole_seconds() -> None:
    time = [1000.9]
    store = MemoryStorage(Bucket("renders", lambda: time[0]))
    store.put("x", b"")
    time[0] = 1002.0
    assert store.age("x") == 2.0  # 1000 to 1002, as S3's dates have it
    store.put("x", b"")
    assert store.age("x") == 0.0


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("put", "create", "delete")), st.sampled_from("abcde"), st.binary(max_size=2)
        )
    )
)
def test_histories_end_as_in_a_dictionary(history: list[tuple[Op, str, bytes]]) -> None:
    store, there = MemoryStorage(Bucket("renders"), page=2), dict[str, bytes]()
    for op, key, data in history:
        if op == "put":
            store.put(key, data)
            there[key] = data
        elif op == "create":
            assert store.put_if_absent(key, data) == (key not in there)
            there.setdefault(key, data)
        else:
            store.delete(key)
            there.pop(key, None)
        assert {item.key: store.get(item.key) for item in store.list()} == there
        assert [item.key for item in store.list()] == sorted(there)


def test_a_request_passes_its_gate_whole() -> None:
    seen: list[tuple[Op, str]] = []

    def gate(op: Op, key: str, effect: Callable[[], object]) -> object:
        seen.append((op, key))
        return effect()

    store = MemoryStorage(Bucket("renders"), "p", gate, page=2)
    for number in range(5):
        store.put(f"k{number}", b"")
    assert len(list(store.list("k"))) == 5
    assert seen == [("put", f"p/k{number}") for number in range(5)] + [("list", "p/k")] * 3
