"""Signing with real certificates and C2PA's own library, and what `verify` makes of the files."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import ffmpeg
import imageio_ffmpeg
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.media.video_writer import VideoWriter
from ifmdm_core.provenance import synthetic_tags
from serve import certificates
from serve.config import SigningConfig
from serve.signing import Signer
from serve.verify import verify


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def signer(root: Path) -> Signer:
    return Signer.open(SigningConfig(), str(root))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video as a render leaves it: tagged, not signed."""
    tags = synthetic_tags(
        model="tiny", model_sha256="ab" * 32, inputs={"photo": "cd" * 32}, controls={"seed": 7}
    )
    path = tmp_path_factory.mktemp("plain") / "plain.mp4"
    with VideoWriter(path, (64, 64), 25, metadata=tags) as writer:
        writer.write(np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8))
    return path


@pytest.fixture
def signed(signer: Signer, plain: Path, tmp_path: Path) -> Path:
    signer.sign(plain, tmp_path / "signed.mp4")
    return tmp_path / "signed.mp4"


def test_a_signed_file_says_what_made_it(signed: Path) -> None:
    verdict = verify(signed)
    assert (verdict.manifest, verdict.ai_generated, verdict.trusted, verdict.self_made) == (
        "valid",
        True,
        None,
        True,
    )
    assert verdict.good
    assert verdict.problems == ()
    assert verdict.record is not None
    assert verdict.record == verdict.metadata
    assert (verdict.record["model"], verdict.record["model_sha256"]) == ("tiny", "ab" * 32)
    assert (verdict.record["inputs"], verdict.record["controls"]) == ({"photo": "cd" * 32}, {"seed": 7})


def test_the_signed_file_still_starts_at_once(signed: Path) -> None:
    """moov before mdat: players need not fetch the end first."""
    data = signed.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_one_flipped_byte_anywhere_in_picture_or_metadata_is_seen(signed: Path, tmp_path: Path) -> None:
    data = signed.read_bytes()
    for at in (
        data.index(b"mdat") + 100,
        len(data) - 1,
        data.index(b"nobody was filmed", data.index(b"moov")),
    ):
        changed = bytearray(data)
        changed[at] ^= 1
        (tmp_path / "changed.mp4").write_bytes(changed)
        verdict = verify(tmp_path / "changed.mp4")
        assert (verdict.manifest, verdict.good) == ("invalid", False)
        assert any("mismatch" in problem for problem in verdict.problems)


def test_another_record_in_the_manifest_is_seen(signed: Path, tmp_path: Path) -> None:
    data = signed.read_bytes()
    assert data.count(b"ab" * 32) == 2  # in the manifest and in the metadata
    (tmp_path / "forged.mp4").write_bytes(data.replace(b"ab" * 32, b"ac" * 32, 1))
    verdict = verify(tmp_path / "forged.mp4")
    assert (verdict.manifest, verdict.good) == ("invalid", False)


def test_copying_the_streams_loses_the_manifest_and_keeps_the_metadata(signed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    ffmpeg.input(str(signed)).output(str(copy), c="copy", movflags="use_metadata_tags", map_metadata=0).run(
        cmd=imageio_ffmpeg.get_ffmpeg_exe(), quiet=True
    )
    verdict = verify(copy)
    assert (verdict.manifest, verdict.good, verdict.record) == ("absent", False, None)
    assert verdict.metadata is not None


def test_an_unsigned_file_is_not_good(plain: Path) -> None:
    assert (verify(plain).manifest, verify(plain).good) == ("absent", False)


def test_trust_is_asked_of_the_given_authorities(signed: Path, root: Path, tmp_path: Path) -> None:
    ours = verify(signed, root / certificates.AUTHORITY)
    assert (ours.trusted, ours.good) == (True, True)
    (tmp_path / "others.pem").write_bytes(certificates.make_certificate()[1])
    others = verify(signed, tmp_path / "others.pem")
    assert (others.manifest, others.trusted, others.good) == ("valid", False, False)


def test_only_marked_videos_are_signed_and_failures_leave_nothing(signer: Signer, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "unmarked.mp4", (64, 64), 25) as writer:
        writer.write(np.zeros((3, 64, 64, 3), np.uint8))
    with pytest.raises(BadInput, match="does not say that it is AI-generated"):
        signer.sign(tmp_path / "unmarked.mp4", tmp_path / "signed.mp4")
    with pytest.raises(NotFound):
        signer.sign(tmp_path / "none.mp4", tmp_path / "signed.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["unmarked.mp4"]


def test_the_self_made_certificate_is_made_once_and_its_key_is_private(root: Path, signer: Signer) -> None:
    again = Signer.open(SigningConfig(), str(root))
    assert again.certificate == signer.certificate
    assert stat.S_IMODE((root / certificates.PAIR).stat().st_mode) == 0o600
    assert b"PRIVATE" not in (root / certificates.AUTHORITY).read_bytes()


def test_replicas_that_start_together_sign_with_the_same_certificate(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(
            pool.map(lambda _: Signer.open(SigningConfig(), str(tmp_path)).certificate.chain, range(8))
        )
    assert len(set(made)) == 1
    assert made[0].endswith((tmp_path / certificates.AUTHORITY).read_bytes())


def test_an_operators_certificate_signs(tmp_path: Path, plain: Path) -> None:
    pair, authority = certificates.make_certificate()
    config = _files(tmp_path, pair, pair)
    operator = Signer.open(config, str(tmp_path / "root"))
    assert not (tmp_path / "root").exists()
    operator.sign(plain, tmp_path / "signed.mp4")
    (tmp_path / "authority.pem").write_bytes(authority)
    assert verify(tmp_path / "signed.mp4", tmp_path / "authority.pem").trusted


def test_certificates_that_cannot_sign_are_refused_by_name(tmp_path: Path) -> None:
    pair, _ = certificates.make_certificate()
    other, _ = certificates.make_certificate()
    locked = serialization.load_pem_private_key(pair, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    for chain, key, says in (
        (pair, other, "key.pem: is not the key of .*chain.pem"),
        (pair, locked, "key.pem: the key has a password"),
        (pair, b"text", "key.pem: no private key in it"),
        (b"text", pair, "chain.pem: no certificate in it"),
        (*_own(days=-1), "chain.pem: is valid from .*not today"),
        (*_own(days=1), "C2PA does not take the signing certificate"),  # signed by itself, for no purpose
    ):
        with pytest.raises(BadInput, match=says):
            Signer.open(_files(tmp_path, chain, key), str(tmp_path / "root"))
    with pytest.raises(NotFound):
        Signer.open(SigningConfig(certificate=tmp_path / "none.pem", key=tmp_path / "key.pem"), str(tmp_path))


def test_one_half_of_a_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="certificate and key go together"):
        SigningConfig(certificate=Path("chain.pem"))


def test_authorities_must_be_certificates(signed: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_bytes(b"text")
    with pytest.raises(BadInput, match="no certificate in it"):
        verify(signed, tmp_path / "bad.pem")


def _files(folder: Path, chain: bytes, key: bytes) -> SigningConfig:
    (folder / "chain.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(key)
    return SigningConfig(certificate=folder / "chain.pem", key=folder / "key.pem")


def _own(days: int) -> tuple[bytes, bytes]:
    """A plain self-signed certificate that ends in `days`, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody")])
    end = datetime.now(UTC) + timedelta(days=days)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(end - timedelta(days=9)).not_valid_after(end)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private
