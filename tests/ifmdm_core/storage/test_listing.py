"""What is in a store: keys in order, the first of them, folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput
from ifmdm_core.storage import FolderStorage, Item, S3Config, Storage, open_storage, s3
from ifmdm_core.uri import Uri
from tests.fault_proxy import FaultProxy


def test_list_is_by_prefix_and_in_byte_order(store: Storage) -> None:
    for key in ("log/10", "log/2", "log/1/x", "logs", "Log/1", "log/é", "other"):
        store.put(key, key.encode())
    assert [item.key for item in store.list("log/")] == ["log/1/x", "log/10", "log/2", "log/é"]
    assert [item.key for item in store.list("log")] == ["log/1/x", "log/10", "log/2", "log/é", "logs"]
    assert list(store.list("nothing/")) == []


def test_listing_goes_past_one_page(
    s3_config: S3Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "LIST_PAGE", 3)
    store = open_storage(f"s3://renders/{tmp_path.name}-pages", s3_config)
    for number in range(10):
        store.put(f"k/{number:05d}", b"")
    assert [item.key for item in store.list("k/")] == [f"k/{number:05d}" for number in range(10)]


def test_listing_says_what_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadInput, match="file"):
        list(open_storage(tmp_path / "file").list())


def test_listing_survives_names_that_are_not_unicode(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9")).write_bytes(b"12")
    (tmp_path / "a").write_bytes(b"1")
    assert [(os.fsencode(item.key), item.size) for item in open_storage(tmp_path).list()] == [
        (b"a", 1), (b"caf\xe9", 2),
    ]  # fmt: skip


KEYS = ["q/a/1", "q/a/2/deep", "q/a-b/0", "q/a.b/0", "q/ab/0", "q/z", "r"]


@pytest.mark.parametrize("limit", [0, 1, 2, 4, 6, 100])
def test_a_limit_gives_the_first_keys_of_nested_folders_too(store: Storage, limit: int) -> None:
    for key in KEYS:
        store.put(key, b"")
    ordered = ["q/a-b/0", "q/a.b/0", "q/a/1", "q/a/2/deep", "q/ab/0", "q/z"]  # - and . come before /
    assert [item.key for item in store.list("q/")] == ordered
    assert [item.key for item in store.list("q/", limit)] == ordered[:limit]
    assert [item.key for item in store.list("q/a", limit)] == ordered[:5][:limit]
    assert [item.key for item in store.list(limit=limit)] == [*ordered, "r"][:limit]


def test_the_first_keys_of_a_bucket_cost_one_request(flaky_s3: FaultProxy, tmp_path: Path) -> None:
    store = open_storage(f"s3://renders/{tmp_path.name}", flaky_s3.config)
    for number in range(10):
        store.put(f"k/{number}", b"")
    flaky_s3.seen.clear()
    assert [item.key for item in store.list("k/", 4)] == ["k/0", "k/1", "k/2", "k/3"]
    assert [("max-keys=4" in path, method) for method, path in flaky_s3.seen] == [(True, "GET")]


def test_more_keys_than_a_page_are_asked_for_in_pages(
    s3_config: S3Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "LIST_PAGE", 3)
    store = open_storage(f"s3://renders/{tmp_path.name}-limit", s3_config)
    for number in range(9):
        store.put(f"k/{number}", b"")
    assert [item.key for item in store.list("k/", 7)] == [f"k/{number}" for number in range(7)]


def test_the_first_keys_of_a_folder_cost_no_look_at_the_others(tmp_path: Path) -> None:
    looked: list[str] = []

    class Counting(FolderStorage):
        def _item(self, key: str, path: Path) -> Item | None:
            looked.append(key)
            return super()._item(key, path)

    (tmp_path / "q").mkdir()
    for number in range(300):
        (tmp_path / "q" / f"{number:04d}").touch()
    listed = [item.key for item in Counting(Uri.parse(tmp_path)).list("q/", 5)]
    assert listed == looked == [f"q/{number:04d}" for number in range(5)]


def test_a_file_that_goes_while_it_is_listed_is_left_out_and_the_limit_filled(tmp_path: Path) -> None:
    store = open_storage(tmp_path)
    for name in "abcd":
        store.put(name, b"")
    listing = store.list(limit=3)
    assert next(listing).key == "a"
    store.delete("b")
    assert [item.key for item in listing] == ["c", "d"]


def test_folders_are_named_once_in_order(store: Storage) -> None:
    for key in KEYS:
        store.put(key, b"")
    assert store.folders("q/") == ["a", "a-b", "a.b", "ab"]
    assert store.folders("q/a/") == ["2"]
    assert store.folders() == ["q"]
    assert store.folders("nothing/") == store.folders("q/a-b/") == []


def test_folders_go_past_one_page(
    s3_config: S3Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "LIST_PAGE", 3)
    store = open_storage(f"s3://renders/{tmp_path.name}-folders", s3_config)
    for number in range(8):
        store.put(f"q/tenant{number}/x", b"")
    assert store.folders("q/") == [f"tenant{number}" for number in range(8)]


def test_an_emptied_folder_is_none(store: Storage) -> None:
    store.put("q/a/1", b"")
    store.put("q/b/1", b"")
    store.put("q/c/deep/er/1", b"")
    store.delete("q/a/1")
    store.delete("q/c/deep/er/1")
    assert store.folders("q/") == ["b"]


def test_half_a_name_is_no_folder(store: Storage) -> None:
    with pytest.raises(BadInput, match="slash"):
        store.folders("que")
