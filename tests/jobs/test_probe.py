"""Real stores pass; stores with a fault that would lose jobs are refused by name, before there are any."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ifmdm_core.errors import Forbidden, NotFound, Unavailable, Unsupported
from ifmdm_core.storage import FolderStorage, Item, S3Config, Storage, open_storage, s3_client
from ifmdm_core.uri import Uri
from jobs.probe import probe
from tests.fault_proxy import Answer, FaultProxy, Lose, Strip


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return open_storage(tmp_path / "store")
    return open_storage(f"s3://renders/{tmp_path.name}", request.getfixturevalue("s3_config"))


def test_a_store_that_does_everything_passes_and_is_left_clean(store: Storage) -> None:
    found = probe(store)
    assert found.root == str(store.root)
    assert found.warnings == ()
    assert found.versioned is False
    assert list(store.list()) == []


def test_a_store_that_ignores_preconditions_is_refused_by_name(flaky_s3: FaultProxy, tmp_path: Path) -> None:
    root = f"s3://renders/{tmp_path.name}"
    store = open_storage(root, flaky_s3.config)
    flaky_s3.add(Strip())
    with pytest.raises(Unsupported, match=rf"{root} .*If-None-Match.*AWS S3.*MinIO.*folder"):
        probe(store)
    assert list(store.list()) == []


def test_a_store_that_lost_a_delete_condition_only_warns(flaky_s3: FaultProxy, tmp_path: Path) -> None:
    flaky_s3.add(Strip(), methods=("DELETE",))
    found = probe(open_storage(f"s3://renders/{tmp_path.name}", flaky_s3.config))
    assert not found.guards_deletes
    assert ["inbox" in line for line in found.warnings] == [True]


def test_a_bucket_that_keeps_versions_is_warned_of(s3_config: S3Config) -> None:
    s3_client(s3_config).create_bucket(Bucket="kept-versions")
    s3_client(s3_config).put_bucket_versioning(
        Bucket="kept-versions", VersioningConfiguration={"Status": "Enabled"}
    )
    (warning,) = probe(open_storage("s3://kept-versions", s3_config)).warnings
    assert warning.startswith("s3://kept-versions")
    assert "versioning" in warning


def test_conditions_that_are_not_implemented_are_a_refusal_too(flaky_s3: FaultProxy, tmp_path: Path) -> None:
    flaky_s3.add(Answer(501, "NotImplemented"), methods=("PUT",))
    with pytest.raises(Unsupported, match="NotImplemented"):
        probe(open_storage(f"s3://renders/{tmp_path.name}", flaky_s3.config))


def test_a_busy_store_is_not_a_bad_one(flaky_s3: FaultProxy, tmp_path: Path) -> None:
    """409 is what S3 answers to some of the creates that race; a lost reply is another's win."""
    flaky_s3.add(Answer(409, "ConditionalRequestConflict"), times=5, methods=("PUT",), path="race0")
    flaky_s3.add(Lose(), times=2, methods=("PUT",), path="race1")
    assert probe(open_storage(f"s3://renders/{tmp_path.name}", flaky_s3.config)).warnings == ()


def test_a_store_that_never_tells_is_unavailable(flaky_s3: FaultProxy, tmp_path: Path) -> None:
    flaky_s3.add(Answer(409, "ConditionalRequestConflict"), methods=("PUT",), path="race")
    with pytest.raises(Unavailable, match="too rarely"):
        probe(open_storage(f"s3://renders/{tmp_path.name}", flaky_s3.config))


def test_no_bucket_and_no_right_keep_their_own_names(flaky_s3: FaultProxy, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no bucket"):
        probe(open_storage("s3://absent-bucket", flaky_s3.config))
    flaky_s3.add(Answer(403, "AccessDenied"), methods=("PUT",))
    with pytest.raises(Forbidden, match="AccessDenied"):
        probe(open_storage(f"s3://renders/{tmp_path.name}", flaky_s3.config))


class _LooksFirst(FolderStorage):
    """Creates by looking and then writing: right one after the other, wrong in a race."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if self.info(key) is not None:
            return False
        self.put(key, data)
        return True


class _ListsLate(FolderStorage):
    """Listings miss the newest object."""

    def list(self, prefix: str = "", limit: int | None = None) -> Iterator[Item]:
        found = [*super().list(prefix, limit)]
        newest = max(found, key=lambda item: item.modified, default=None)
        return iter([item for item in found if item is not newest])


class _Remembers(FolderStorage):
    """Deletes nothing."""

    def delete(self, key: str) -> None:
        pass


class _OffTime(FolderStorage):
    """The clock that stamps objects is three minutes behind, or an hour ahead of, the one that tells the time."""

    off = timedelta(minutes=-3)

    def put(self, key: str, data: bytes) -> None:
        super().put(key, data)
        path = self.local_path(key)
        assert path is not None
        stamp = path.stat().st_mtime + self.off.total_seconds()
        os.utime(path, (stamp, stamp))


class _AheadOfTime(_OffTime):
    off = timedelta(hours=1)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (_LooksFirst, "If-None-Match"),
        (_ListsLate, "does not list"),
        (_Remembers, "just deleted"),
        (_OffTime, "180 s old"),
        (_AheadOfTime, "-3600 s old"),
    ],
)
def test_what_would_lose_jobs_is_refused(kind: type[FolderStorage], what: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=what):
        probe(kind(Uri.parse(tmp_path)))
