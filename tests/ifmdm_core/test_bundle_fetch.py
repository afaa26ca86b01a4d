"""Bundles from a store into the local cache, and what is refused on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ifmdm_core.bundle import DEMO, load_bundle
from ifmdm_core.bundle_fetch import fetch_bundle
from ifmdm_core.errors import BadInput, Conflict, NotFound
from ifmdm_core.storage import S3Config, open_storage


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IFMDM_CACHE", str(tmp_path / "cache"))


def upload(bundle: Path, uri: str, s3: S3Config) -> None:
    storage = open_storage(uri, s3)
    for path in bundle.rglob("*"):
        if path.is_file():
            storage.upload(path.relative_to(bundle).as_posix(), path)


def test_a_folder_is_fetched_like_a_bucket_and_only_once(tiny_bundle: Path, tmp_path: Path) -> None:
    digest = load_bundle(tiny_bundle).digest
    fetched = fetch_bundle(str(tiny_bundle), digest)
    assert fetched.folder == tmp_path / "cache" / "bundles" / digest
    before = (fetched.folder / "motion.safetensors").stat().st_ino
    assert fetch_bundle(str(tiny_bundle), digest).digest == digest
    assert (fetched.folder / "motion.safetensors").stat().st_ino == before


def test_the_demo_needs_no_copy_but_its_digest_counts(tmp_path: Path) -> None:
    digest = load_bundle("demo").digest
    assert fetch_bundle("demo", digest).folder == DEMO
    assert not (tmp_path / "cache").exists()
    with pytest.raises(Conflict, match="expected 000"):
        fetch_bundle("demo", "0" * 64)


def test_another_digest_than_named_is_refused_with_both(
    tiny_bundle: Path, s3_config: S3Config, tmp_path: Path
) -> None:
    upload(tiny_bundle, "s3://renders/changed", s3_config)
    with pytest.raises(Conflict) as error:
        fetch_bundle("s3://renders/changed", "0" * 64, s3_config)
    assert "0" * 64 in error.value.what
    assert load_bundle(tiny_bundle).digest in error.value.what
    with pytest.raises(NotFound, match=r"no bundle.json"):
        fetch_bundle("s3://renders/nowhere", None, s3_config)


def test_a_damaged_file_never_gets_into_the_cache(
    tiny_bundle: Path, s3_config: S3Config, tmp_path: Path
) -> None:
    uri = "s3://renders/damaged"
    upload(tiny_bundle, uri, s3_config)
    storage = open_storage(uri, s3_config)
    whole = storage.get("motion.safetensors")
    storage.put("motion.safetensors", whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(Conflict, match=r"motion.safetensors has sha256"):
        fetch_bundle(uri, None, s3_config)
    storage.put("motion.safetensors", whole)
    assert fetch_bundle(uri, None, s3_config).digest == load_bundle(tiny_bundle).digest


def test_a_record_cannot_write_outside_the_cache(
    tiny_bundle: Path, s3_config: S3Config, tmp_path: Path
) -> None:
    record = json.loads((tiny_bundle / "bundle.json").read_text())
    record["sha256"]["../../../escaped.json"] = "0" * 64
    storage = open_storage("s3://renders/evil", s3_config)
    storage.put("bundle.json", json.dumps(record).encode())
    with pytest.raises(BadInput, match=r"\.\./\.\./\.\./escaped"):
        fetch_bundle("s3://renders/evil", None, s3_config)
    assert not list(tmp_path.rglob("escaped.json"))
