"""The certificate that finished files are signed with: the operator's, or one made here that says so itself.

C2PA wants a chain whose first certificate is the signer's, for signing only; a self-signed one is refused, so a
self-made chain has an authority of its own. That authority's key is forgotten at once: it can sign nothing else.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ifmdm_core.errors import BadInput, Unsupported
from ifmdm_core.media.files import input_file
from ifmdm_core.storage import Storage, open_storage
from serve.config import SigningConfig

SELF_MADE = "ifmdm demo (self-made certificate, vouched for by nobody)"
"""Organisation in self-made certificates: what a reader of the manifest is shown as its issuer."""
PAIR = "certificates/signer.pem"
"""Chain and key of the self-made signer in the service's root: one object, so that racing replicas agree."""
AUTHORITY = "certificates/authority.pem"
"""Its authority alone, without a key: what `ifmdm verify --trust` takes."""
_YEARS = 10  # without time stamps a signature ends with its certificate
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True)
class Certificate:
    """What a C2PA signer needs."""

    chain: bytes
    """PEM, the signer's certificate first."""
    key: bytes = field(repr=False)
    """PEM, PKCS 8, without a password."""
    algorithm: str
    """C2PA's name for it: es256, es384, es512, ed25519, ps256."""
    self_made: bool


def signing_certificate(config: SigningConfig, root: str) -> Certificate:
    """The operator's certificate, or the self-made one of the service's root, made there if it is absent.

    Raises:
        NotFound, Forbidden: a file of the operator's that is absent or may not be read.
        BadInput: no PEM, a key with a password, a key that is not the certificate's, one outside its time.
        Unsupported: a kind of key that C2PA has no algorithm for.
    """
    if config.certificate is None or config.key is None:
        pair = _self_made(open_storage(root))
        return _checked(pair, pair, f"{root}: {PAIR}", f"{root}: {PAIR}", self_made=True)
    chain, key = (input_file(path, "PEM").read_bytes() for path in (config.certificate, config.key))
    return _checked(chain, key, str(config.certificate), str(config.key), self_made=False)


def _checked(chain_pem: bytes, key_pem: bytes, certificate: str, key: str, *, self_made: bool) -> Certificate:
    """The pair, if it is one; `certificate` and `key` are their names in messages."""
    try:
        chain = x509.load_pem_x509_certificates(chain_pem)
    except ValueError as error:
        raise BadInput(
            f"{certificate}: no certificate in it ({error})", fix="give a PEM chain, the signer's first"
        ) from None
    try:
        private = serialization.load_pem_private_key(key_pem, password=None)
    except TypeError:
        raise BadInput(
            f"{key}: the key has a password", fix="openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW"
        ) from None
    except ValueError:
        raise BadInput(f"{key}: no private key in it", fix="give a PEM file with a private key") from None
    if private.public_key() != chain[0].public_key():
        raise BadInput(
            f"{key}: is not the key of {certificate}", fix="give the pair, and the signer's certificate first"
        )
    now = datetime.datetime.now(datetime.UTC)
    if not chain[0].not_valid_before_utc <= now <= chain[0].not_valid_after_utc:
        span = f"{chain[0].not_valid_before_utc:%Y-%m-%d} to {chain[0].not_valid_after_utc:%Y-%m-%d}"
        raise BadInput(f"{certificate}: is valid from {span}, not today", fix="have it renewed")
    return Certificate(
        chain=b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain),
        key=_pem(private),
        algorithm=_algorithm(private, key),
        self_made=self_made,
    )


def _algorithm(key: object, name: str) -> str:
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return "ps256"
    raise Unsupported(f"{name}: C2PA has no algorithm for this kind of key", fix="use P-256, Ed25519 or RSA")


def _self_made(storage: Storage) -> bytes:
    """PEM of key and chain; of racing replicas the first one's is everybody's."""
    if storage.info(PAIR) is None:
        storage.put_if_absent(PAIR, make_certificate()[0])
    local = storage.local_path(PAIR)
    if local is not None:
        local.chmod(0o600)
    pair = storage.get(PAIR)
    if storage.info(AUTHORITY) is None:
        authority = x509.load_pem_x509_certificates(pair)[-1]
        storage.put(AUTHORITY, authority.public_bytes(serialization.Encoding.PEM))
    return pair


def make_certificate() -> tuple[bytes, bytes]:
    """A new signer (PEM: its key, its certificate, its authority's) and the authority's certificate (PEM)."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _issued("authority", authority_key, authority_key, authority=True)
    signer = _issued("signer", key, authority_key, authority=False)
    public = authority.public_bytes(serialization.Encoding.PEM)
    return _pem(key) + signer.public_bytes(serialization.Encoding.PEM) + public, public


def _issued(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: ec.EllipticCurvePrivateKey, *, authority: bool
) -> x509.Certificate:
    """C2PA's certificate profile: signing only, for e-mail protection, with both key identifiers."""
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=not authority, key_cert_sign=authority, crl_sign=authority, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named("authority"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), True)
        .add_extension(usage, True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), False)
    )
    if not authority:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, False)
    return builder.sign(issuer, hashes.SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, SELF_MADE),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _pem(key: object) -> bytes:
    assert isinstance(key, (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey, rsa.RSAPrivateKey))
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
