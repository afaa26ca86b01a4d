"""What can be said of a video file: is there a C2PA manifest, does it hold, who signed it, and what does it say.

Nothing is fetched: a manifest may name addresses (a remote manifest, a certificate's status), and the file may be
anybody's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ifmdm_core.errors import BadInput
from ifmdm_core.media.files import input_file
from ifmdm_core.provenance import SOURCE_TYPE, read_tags
from serve.certificates import SELF_MADE
from serve.signing import RENDER

_UNTRUSTED = "signingCredential.untrusted"
_OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}


@dataclass(frozen=True)
class Verdict:
    """What a file says of itself, and whether that holds."""

    manifest: Literal["valid", "invalid", "absent"]
    """valid: the signature holds and no signed byte has changed since."""
    ai_generated: bool
    """Whether the manifest says that a trained model made the whole."""
    trusted: bool | None
    """Whether the signer leads to a given authority; None where none was given."""
    self_made: bool
    """Whether its certificate says that it is self-made."""
    signer: str | None
    """Organisation and name in the signer's certificate; proof of nothing unless `trusted`."""
    problems: tuple[str, ...]
    """Why it is invalid, in C2PA's words."""
    record: dict[str, Any] | None
    """The signed record: model, digests, controls."""
    metadata: dict[str, Any] | None
    """The same in the container's metadata, which anybody can write."""

    @property
    def good(self) -> bool:
        """Valid, says AI-generated, and trusted if that was asked."""
        return self.manifest == "valid" and self.ai_generated and self.trusted is not False


def verify(path: str | Path, authorities: str | Path | None = None) -> Verdict:
    """Reads a video's manifest and metadata.

    Args:
        path: a video file.
        authorities: PEM file of the certificates that signers must lead to; None asks for no trust.

    Raises:
        NotFound, Forbidden, BadInput: no such file, no video; no certificates in `authorities`.
    """
    import c2pa

    metadata = read_tags(path)  # first: it also refuses what is no video
    settings: dict[str, Any] = dict(_OFFLINE)
    if authorities is not None:
        settings["trust"] = {"user_anchors": _anchors(authorities)}
    absent = Verdict("absent", False, None, False, None, (), None, metadata)
    try:
        with (
            open(path, "rb") as file,
            c2pa.Context.from_dict(settings) as context,
            c2pa.Reader("video/mp4", file, context=context) as reader,
        ):
            account = json.loads(reader.json())
    except (c2pa.C2paError.ManifestNotFound, c2pa.C2paError.NotSupported):
        return absent
    except c2pa.C2paError as error:  # a manifest too damaged to be read
        return Verdict("invalid", False, None, False, None, (str(error),), None, metadata)
    return _verdict(account, metadata, asked=authorities is not None)


def _verdict(account: dict[str, Any], metadata: dict[str, Any] | None, *, asked: bool) -> Verdict:
    manifest = account.get("manifests", {}).get(account.get("active_manifest"), {})
    failures = account.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
    signature = manifest.get("signature_info", {})
    state = account.get("validation_state")
    names = [signature[key] for key in ("issuer", "common_name") if signature.get(key)]
    return Verdict(
        manifest="valid" if state in ("Valid", "Trusted") else "invalid",
        ai_generated=_says_generated(manifest),
        trusted=state == "Trusted" if asked else None,
        self_made=signature.get("issuer") == SELF_MADE,
        signer=", ".join(names) or None,
        problems=tuple(
            f"{one.get('code')}: {one.get('explanation')}"
            for one in failures
            if one.get("code") != _UNTRUSTED
        ),
        record=next((data for label, data in _assertions(manifest) if label == RENDER), None),
        metadata=metadata,
    )


def _says_generated(manifest: dict[str, Any]) -> bool:
    return any(
        action.get("action") == "c2pa.created" and action.get("digitalSourceType") == SOURCE_TYPE
        for label, data in _assertions(manifest)
        if label.startswith("c2pa.actions")
        for action in data.get("actions", [])
    )


def _assertions(manifest: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(label, data) of those that hold an object; a stranger's manifest may hold anything."""
    given = [(one.get("label", ""), one.get("data")) for one in manifest.get("assertions", [])]
    return [(label, data) for label, data in given if isinstance(data, dict)]


def _anchors(path: str | Path) -> str:
    from cryptography import x509

    pem = input_file(path, "PEM").read_bytes()
    try:
        x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise BadInput(
            f"{path}: no certificate in it ({error})", fix="give a PEM file of authorities"
        ) from None
    return pem.decode()
