"""C2PA manifests in finished MP4 files: who made this, with what, and that nobody was filmed.

Signing comes last: a manifest covers the file's bytes, and whoever copies the streams into a new container (`ffmpeg
-c copy`) leaves it behind. What streams carry instead is `ifmdm_core.provenance.synthetic_tags`.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, Any

from ifmdm_core import __version__
from ifmdm_core.errors import BadInput
from ifmdm_core.media.files import published
from ifmdm_core.provenance import SOURCE_TYPE, read_tags
from ifmdm_core.samples import SAMPLES
from serve.certificates import Certificate, signing_certificate
from serve.config import SigningConfig

RENDER = "org.ifmdm.render"
"""Label of the assertion that holds the record of `synthetic_tags`: model, digests, controls."""
ACTIONS = "c2pa.actions.v2"
_SAMPLE = SAMPLES / "astronaut.jpg"


class Signer:
    """Signs with one certificate; may be used from several threads."""

    def __init__(self, certificate: Certificate) -> None:
        """Tries the certificate out, so that one C2PA does not take stops the start and not every render's end.

        Raises BadInput when C2PA refuses it (a self-signed one, one that is for other purposes).
        """
        self.certificate = certificate
        import c2pa

        signed = io.BytesIO()
        try:
            with _SAMPLE.open("rb") as sample:
                self._embed(sample, signed, "image/jpeg", "trial", {})
            with c2pa.Reader("image/jpeg", signed) as reader:
                state = reader.get_validation_state()
        except c2pa.C2paError as error:
            raise _refused(str(error)) from None
        if state == "Invalid":
            raise _refused("its own signature does not hold")

    @classmethod
    def open(cls, config: SigningConfig, root: str) -> Signer:
        """The service's signer; see `certificates.signing_certificate` for what is raised."""
        return cls(signing_certificate(config, root))

    def sign(self, source: Path, target: Path) -> None:
        """A copy of the finished MP4 `source` with a manifest, at `target`, whole or not at all.

        The record comes from the file's own tags, so that what is signed is what the file says.

        Raises:
            NotFound, BadInput: no video, or one without the tags of `synthetic_tags`.
            Forbidden, Unavailable: `target` cannot be written.
        """
        record = read_tags(source)
        if record is None:
            raise BadInput(
                f"{source}: does not say that it is AI-generated", fix="write it with synthetic_tags"
            )
        with published(target) as temporary, source.open("rb") as given, temporary.open("w+b") as signed:
            self._embed(given, signed, "video/mp4", target.name, record)

    def _embed(
        self, source: IO[bytes], target: IO[bytes], kind: str, title: str, record: dict[str, Any]
    ) -> None:
        import c2pa

        certificate = self.certificate
        info = c2pa.C2paSignerInfo(certificate.algorithm, certificate.chain, certificate.key, None)
        settings = {"builder": {"thumbnail": {"enabled": False}}}
        # A context owns its signer, and is not said to be safe between threads; making one costs well under 1 ms.
        with (
            c2pa.Context.from_dict(settings, signer=c2pa.Signer.from_info(info)) as context,
            c2pa.Builder(_manifest(title, kind, record), context) as builder,
        ):
            builder.sign(kind, source, target)


def _manifest(title: str, kind: str, record: dict[str, Any]) -> dict[str, Any]:
    agent = {"name": "ifmdm", "version": __version__}
    created = {
        "action": "c2pa.created",
        "digitalSourceType": SOURCE_TYPE,
        "softwareAgent": agent,
        "description": "A still photo animated by a model from speech; nobody was filmed.",
    }
    return {
        "claim_generator_info": [agent],
        "title": title,
        "format": kind,
        "assertions": [
            {"label": ACTIONS, "data": {"actions": [created]}},
            {"label": RENDER, "data": record},
        ],
    }


def _refused(why: str) -> BadInput:
    return BadInput(
        f"C2PA does not take the signing certificate ({why})",
        fix="give a chain with digitalSignature, e-mail protection and both key identifiers; see docs/provenance.md",
    )
