import threading
from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput, Conflict, Unavailable, Unsupported
from ifmdm_core.storage import open_storage
from pipelines.dataset.manifest import FileRef, Manifest, commit, latest


def with_selection(name: str):  # type: ignore[no-untyped-def]
    ref = FileRef(key=f"selection/{name}", sha256="0", bytes=1)
    return lambda base: base.model_copy(update={"selections": {**base.selections, name: ref}})


def test_an_empty_place_has_an_empty_manifest_and_the_first_write_is_number_0(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    assert latest(storage).number == -1
    assert commit(storage, with_selection("a")).number == 0
    assert latest(storage).selections.keys() == {"a"}


def test_a_change_of_nothing_writes_nothing(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    commit(storage, with_selection("a"))
    assert commit(storage, with_selection("a")).number == 0
    assert commit(storage, lambda base: None).number == 0
    assert len(list((tmp_path / "manifests").iterdir())) == 1


def test_racing_writers_lose_nothing(tmp_path: Path) -> None:
    names = [f"{k}" for k in range(24)]

    def write(part: list[str]) -> None:
        for name in part:
            commit(open_storage(tmp_path), with_selection(name))

    threads = [threading.Thread(target=write, args=(names[k::4],)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    final = latest(open_storage(tmp_path))
    assert final.selections.keys() == set(names)
    assert final.number == len(names) - 1


@pytest.mark.parametrize("arrived", [True, False])
def test_a_write_whose_answer_is_lost_is_found_again_and_never_done_twice(
    tmp_path: Path, arrived: bool
) -> None:
    storage = open_storage(tmp_path)
    put, calls = storage.put_if_absent, []

    def cut_off(key: str, data: bytes) -> bool:
        calls.append(key)
        if len(calls) == 1:
            if arrived:
                put(key, data)
            raise Unavailable("connection cut")
        return put(key, data)

    storage.put_if_absent = cut_off  # type: ignore[method-assign]
    assert commit(storage, with_selection("a")).number == 0
    assert len(calls) == (1 if arrived else 2)
    assert latest(storage).number == 0


def test_a_store_that_never_lets_anybody_win_is_given_up(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    storage.put_if_absent = lambda key, data: False  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="races"):
        commit(storage, with_selection("a"))


def test_unreadable_and_newer_manifests_are_refused_by_name(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    storage.put("manifests/00000000.json", b"{")
    with pytest.raises(BadInput, match=r"00000000\.json"):
        latest(storage)
    storage.put("manifests/00000001.json", Manifest(format=2, number=1).model_dump_json().encode())
    with pytest.raises(Unsupported, match="format 2"):
        latest(storage)


def test_the_content_digest_depends_on_shards_only(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    first = commit(storage, with_selection("a"))
    assert commit(storage, with_selection("b")).content == first.content
