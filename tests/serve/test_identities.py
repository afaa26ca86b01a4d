import os
import time
from pathlib import Path

import numpy as np
import pytest

from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput, Conflict, NotFound
from ifmdm_core.portrait import Portrait, open_portrait
from ifmdm_core.storage import S3Config
from serve.identities import IdentityStore, StoredPortrait
from serve.messages import IdentityRef


def _opened(portrait: Path, **controls: object) -> Portrait:
    return open_portrait(portrait, RenderControls(**controls), 64)


def _age(folder: Path, days: float) -> None:
    then = time.time() - days * 86400
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


def test_a_portrait_comes_back_exactly_on_a_folder_and_on_s3(
    portrait: Path, tmp_path: Path, s3_config: S3Config
) -> None:
    opened = _opened(portrait)
    for store in (
        IdentityStore(tmp_path),
        IdentityStore("s3://renders/identities-come-back", s3=s3_config),
    ):
        identity = store.put("acme", opened)
        stored = store.get(identity)
        np.testing.assert_array_equal(stored.crop, opened.crop)
        assert stored.whole is None
        assert stored.opened(128).size == (128, 128)
        assert stored.opened(None).size == (64, 64)


def test_pasting_back_needs_the_whole_and_gives_another_identity(portrait: Path, tmp_path: Path) -> None:
    store = IdentityStore(tmp_path)
    square, whole = _opened(portrait), _opened(portrait, paste_back=True)
    pasted = store.put("acme", whole)
    assert pasted != store.put("acme", square)
    frames = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)
    again = store.get(pasted).opened(128)  # the size is without effect
    assert again.size == whole.size == (512, 512)
    np.testing.assert_array_equal(again.finish(frames), whole.finish(frames))


def test_a_digest_is_no_right_to_another_tenants_portrait(portrait: Path, tmp_path: Path) -> None:
    store = IdentityStore(tmp_path)
    identity = store.put("acme", _opened(portrait))
    other = IdentityRef("globex", identity.digest)
    assert store.has(identity)
    assert not store.has(other)
    with pytest.raises(NotFound, match="register it again"):
        store.get(other)


@pytest.mark.parametrize(
    ("tenant", "digest"),
    [("../acme", "0" * 64), ("", "0" * 64), ("a/b", "0" * 64), ("acme", "../../x"), ("acme", "0" * 63)],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, tenant: str, digest: str) -> None:
    with pytest.raises(BadInput):
        IdentityStore(tmp_path).get(IdentityRef(tenant, digest))


def test_damage_is_noticed(portrait: Path, tmp_path: Path) -> None:
    store = IdentityStore(tmp_path)
    identity = store.put("acme", _opened(portrait))
    crop = tmp_path / "identities" / "acme" / identity.digest / "crop.png"
    other = store.put("globex", _opened(portrait, face="none"))
    crop.write_bytes((tmp_path / "identities" / "globex" / other.digest / "crop.png").read_bytes())
    with pytest.raises(Conflict, match="damaged"):
        store.get(identity)
    crop.write_bytes(crop.read_bytes()[:200])
    with pytest.raises(Conflict, match="damaged"):
        store.get(identity)


def test_only_portraits_that_were_not_used_are_swept(portrait: Path, tmp_path: Path) -> None:
    store = IdentityStore(tmp_path, days=30)
    used = store.put("acme", _opened(portrait))
    unused = store.put("acme", _opened(portrait, paste_back=True))
    _age(tmp_path, 29)
    assert store.sweep() == 0
    _age(tmp_path, 31)
    store.get(used)
    assert store.sweep() == 1
    assert store.has(used)
    assert not store.has(unused)
    assert not list((tmp_path / "identities" / "acme" / unused.digest).rglob("*"))


def test_use_is_not_written_every_time(portrait: Path, tmp_path: Path) -> None:
    store = IdentityStore(tmp_path, days=30)
    identity = store.put("acme", _opened(portrait))
    mark = tmp_path / "identities" / "acme" / identity.digest / "used"
    before = mark.stat().st_mtime_ns
    store.get(identity)
    assert mark.stat().st_mtime_ns == before
    _age(tmp_path, 2)
    store.get(identity)
    assert mark.stat().st_mtime_ns > before - 10**9


def test_the_digest_is_of_pixels_and_place(portrait: Path) -> None:
    whole = StoredPortrait.of(_opened(portrait, paste_back=True))
    moved = StoredPortrait(whole.crop, whole.whole, None)
    assert len({whole.digest, moved.digest, StoredPortrait(whole.crop).digest}) == 3
