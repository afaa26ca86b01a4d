"""The deny-list: what is on it is refused with its reason; what cannot be looked up is not let through."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ifmdm_core.denylist import FRESH_S, Denial, DenyList, Entry
from ifmdm_core.errors import BadInput, Forbidden, NotFound, Unavailable
from ifmdm_core.storage import FolderStorage, S3Config, Storage, open_storage

FILE, OTHER = "a1" * 32, "b2" * 32
LOOK = "f0" * 32
DENIAL = Denial(reason="a court order", contact="legal@example.com", by="ann", at=1.0)


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, s3_config: S3Config) -> Storage:
    if request.param == "folder":
        return open_storage(tmp_path)
    return open_storage(f"s3://renders/deny-{os.urandom(4).hex()}", s3_config)


def changed(look: str, bits: int) -> str:
    return f"{int(look, 16) ^ ((1 << bits) - 1):064x}"


def test_a_denied_file_is_refused_with_the_reason_and_whom_to_ask(storage: Storage) -> None:
    denied = DenyList(storage)
    assert denied.add(Entry(FILE), DENIAL)
    with pytest.raises(Forbidden) as error:
        denied.refuse("the portrait", FILE)
    assert "a court order" in error.value.what
    assert "legal@example.com" in error.value.fix
    assert error.value.field == "portrait"
    denied.refuse("the portrait", OTHER, [LOOK])


def test_what_looks_nearly_the_same_is_refused(storage: Storage) -> None:
    denied = DenyList(storage, near=40)
    denied.add(Entry(FILE, LOOK), DENIAL)
    with pytest.raises(Forbidden, match="looks like"):
        denied.refuse("the portrait", OTHER, ["00" * 32, changed(LOOK, 40)])
    denied.refuse("the portrait", OTHER, [changed(LOOK, 41), "none", "f0"])


def test_an_entry_is_made_once(storage: Storage) -> None:
    denied = DenyList(storage)
    assert denied.add(Entry(FILE), DENIAL)
    assert not denied.add(Entry(FILE), Denial(reason="another"))
    assert denied.all() == [(Entry(FILE), DENIAL)]


def test_a_new_entry_counts_within_half_a_minute(tmp_path: Path) -> None:
    now = [0.0]
    denied = DenyList(open_storage(tmp_path), clock=lambda: now[0])
    denied.refuse("the portrait", FILE)
    DenyList(open_storage(tmp_path)).add(Entry(FILE), DENIAL)
    denied.refuse("the portrait", FILE)
    now[0] += FRESH_S + 1
    with pytest.raises(Forbidden):
        denied.refuse("the portrait", FILE)


def test_what_was_lifted_counts_no_more_at_once(tmp_path: Path) -> None:
    denied = DenyList(open_storage(tmp_path))
    denied.add(Entry(FILE), DENIAL)
    with pytest.raises(Forbidden):
        denied.refuse("the portrait", FILE)
    denied.remove(*denied.starting_with(FILE[:8]))
    denied.refuse("the portrait", FILE)


def test_a_damaged_entry_still_denies(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    storage.put(Entry(FILE).key, b"{")
    with pytest.raises(Forbidden, match="damaged"):
        DenyList(storage).refuse("the portrait", FILE)


def test_a_list_that_cannot_be_read_lets_nobody_through(tmp_path: Path) -> None:
    class Closed(FolderStorage):
        def list(self, prefix: str = "", limit: int | None = None):  # type: ignore[no-untyped-def]
            raise Forbidden("AccessDenied")

    with pytest.raises(Unavailable, match="deny-list"):  # a job waits; it is not the portrait's fault
        DenyList(Closed(open_storage(tmp_path).root)).refuse("the portrait", FILE)


def test_entries_are_named_by_enough_digits(storage: Storage) -> None:
    denied = DenyList(storage)
    twins = "c3" * 31 + "00", "c3" * 31 + "11"
    for sha256 in twins:
        denied.add(Entry(sha256), DENIAL)
    assert denied.starting_with(twins[1]) == [Entry(twins[1])]
    for digits, error in (
        ("c3", BadInput),
        ("c3" * 8, BadInput),
        ("../jobs/x", BadInput),
        ("d4" * 8, NotFound),
    ):
        with pytest.raises(error):
            denied.starting_with(digits)
