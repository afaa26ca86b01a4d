"""What a tenant may reach, at submit and again when its job is rendered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ifmdm_core.errors import BadInput, Forbidden
from ifmdm_core.uri import Uri
from jobs.names import tenant_key
from jobs.tenants import Places, TenantPolicy, keep_out, parse_policy, read_policy
from tests.jobs.small_store import SmallStore


@pytest.fixture
def disk(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


@pytest.mark.parametrize(
    ("uri", "allowed", "key"),
    [
        ("s3://bucket/in/a.jpg", ("s3://bucket/in",), "a.jpg"),
        ("s3://bucket/in/a.jpg", ("s3://bucket",), "in/a.jpg"),
        ("s3://bucket/in/a.jpg", ("s3://bucket/in/",), "a.jpg"),
        ("s3://bucket/input/a.jpg", ("s3://bucket/in",), None),
        ("s3://bucket/in/../a.jpg", ("s3://bucket/in",), None),
        ("s3://bucket/in", ("s3://bucket/in",), None),
        ("s3://bucket2/in/a.jpg", ("s3://bucket",), None),
        ("s3://bucket/a.jpg", (), None),
        ("/etc/passwd", ("s3://bucket",), None),
        ("s3://bucket/b/a.jpg", ("s3://bucket/a", "s3://bucket/b"), "a.jpg"),
    ],
)
def test_places_are_under_what_is_allowed(uri: str, allowed: tuple[str, ...], key: str | None) -> None:
    if key is not None:
        assert Places().at(uri, allowed, "portrait")[1] == key
        return
    with pytest.raises(Forbidden) as error:
        Places().at(uri, allowed, "portrait")
    assert error.value.field == "portrait"
    assert uri in str(error.value)


@pytest.mark.parametrize("root", ["s3://bucket/jobs", "s3://bucket"])
@pytest.mark.parametrize(
    ("key", "as_input", "as_output"),
    [
        ("out/a.mp4", True, True),
        ("uploads/mine/a.mp4", True, False),
        ("inbox/mine/a.mp4", True, False),
        ("uploads/mine2/a.mp4", False, False),
        ("inbox/other/a.mp4", False, False),
        ("attempts/mine/x/1/video.mp4", False, False),
        ("jobs/mine/x/a.mp4", False, False),
        ("_store.json", False, False),
    ],
)
def test_the_stores_own_folders_are_kept(root: str, key: str, as_input: bool, as_output: bool) -> None:
    uri = str(Uri.parse(root).join(key))
    for field, fine in (("audio", as_input), ("output", as_output)):
        if fine:
            keep_out(Uri.parse(root), "mine", uri, field)
            continue
        with pytest.raises(Forbidden) as error:
            keep_out(Uri.parse(root), "mine", uri, field)
        assert error.value.field == field
    keep_out(Uri.parse(root), "mine", "s3://elsewhere/jobs/a.mp4", "output")


def test_a_link_into_the_store_is_kept_out_too(disk: SmallStore, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "store" / "attempts")
    with pytest.raises(Forbidden, match="own 'attempts'"):
        keep_out(disk.storage.root, "default", str(tmp_path / "link" / "a.mp4"), "output")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"output": "attempts/other/x/1/video.mp4"}, "output"),
        ({"audio": "uploads/other/a.wav"}, "audio"),
        ({"output": "/elsewhere/a.mp4"}, "output"),
    ],
)
def test_a_record_that_was_written_past_submitting_is_refused_by_the_worker(
    disk: SmallStore, change: dict[str, str], field: str
) -> None:
    ref = disk.submit("a")
    record: dict[str, Any] = json.loads(disk.storage.get(ref.spec))
    for name, key in change.items():
        record["job"][name] = key if key.startswith("/") else disk.uri(key)
    disk.storage.put(ref.spec, json.dumps(record).encode())
    before = disk.keys("attempts/")
    disk.work()
    fault = disk.view(ref).state.fault
    assert fault is not None
    assert (fault.kind, fault.field) == ("Forbidden", field)
    assert disk.keys("attempts/") == before


def test_policies_that_are_broken_or_missing_are_told(disk: SmallStore) -> None:
    disk.storage.put(tenant_key("odd"), b'{"weight": 0}')
    with pytest.raises(BadInput, match="weight is 0"):
        read_policy(disk.storage, "odd")
    with pytest.raises(BadInput, match="is not JSON"):
        parse_policy(b"{", "odd")
    with pytest.raises(Forbidden, match="ifmdm jobs init --tenant nobody"):
        read_policy(disk.storage, "nobody")
    with pytest.raises(BadInput, match="did you mean 'demo'"):
        TenantPolicy(models=disk.policy().models).model("dmeo")
