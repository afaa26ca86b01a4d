"""Aligned portraits at rest: registered once, fetched by whichever decoder needs them, gone some time after last use.

identities/<tenant>/<digest>/crop.png                    what the encoder sees; written last
identities/<tenant>/<digest>/whole.png, square.json      only where the face is pasted back
identities/<tenant>/<digest>/used                        its time is the last use
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.errors import BadInput, Conflict, NotFound
from ifmdm_core.media.face import Square
from ifmdm_core.media.image import read_image
from ifmdm_core.portrait import Portrait
from ifmdm_core.storage import Item, S3Config, open_storage
from ifmdm_core.uri import Uri
from serve.messages import IdentityRef

Image = NDArray[np.uint8]

TOUCH_SHARE = 24
"""The last use is known to a part of this many of the time that identities are kept."""
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StoredPortrait:
    """What the decoder needs of a picture."""

    crop: Image
    """[S, S, 3], what the encoder sees."""
    whole: Image | None = None
    """[H, W, 3] that the face is pasted back into; None where the output is the crop's square."""
    square: Square | None = None
    """Where in `whole`."""

    @classmethod
    def of(cls, portrait: Portrait) -> StoredPortrait:
        """What is kept of an opened portrait."""
        if portrait.output is not None:
            return cls(portrait.crop)
        return cls(portrait.crop, portrait.whole, portrait.square)

    @property
    def digest(self) -> str:
        """sha256 of its pixels and of where they go, whatever the encoding."""
        total = hashlib.sha256()
        for image in (self.crop, self.whole):
            if image is not None:
                total.update(repr(image.shape).encode())
                total.update(np.ascontiguousarray(image).data)
        total.update(repr(None if self.square is None else asdict(self.square)).encode())
        return total.hexdigest()

    @property
    def nbytes(self) -> int:
        """Memory held, bytes."""
        return self.crop.nbytes + (0 if self.whole is None else self.whole.nbytes)

    def opened(self, size: int | None) -> Portrait:
        """As a portrait whose frames have a side of `size` pixels (None: the crop's), or are pasted back."""
        if self.whole is not None and self.square is not None:
            return Portrait(self.whole, self.square, self.crop, None, "")
        side = len(self.crop)
        return Portrait(self.crop, Square(side / 2, side / 2, side), self.crop, size or side, "")


class IdentityStore:
    """The portraits under one root. Blocking: not for event loops.

    Args:
        root: folder or s3:// prefix.
        days: how long a portrait is kept after its last use.
    """

    def __init__(self, root: str | Path | Uri, days: float = 30.0, s3: S3Config | None = None) -> None:
        self._storage = open_storage(root, s3)
        self._kept = timedelta(days=days)

    def put(self, tenant: str, portrait: Portrait) -> IdentityRef:
        """Keep an opened portrait; the same one again only counts as use.

        Raises BadInput for a tenant that cannot be a folder's name.
        """
        stored = StoredPortrait.of(portrait)
        identity = IdentityRef(tenant, stored.digest)
        folder = _folder(identity)
        if self._storage.info(f"{folder}/crop.png") is None:
            if stored.whole is not None and stored.square is not None:
                self._storage.put(f"{folder}/whole.png", _png(stored.whole))
                self._storage.put(f"{folder}/square.json", json.dumps(asdict(stored.square)).encode())
            self._storage.put(f"{folder}/crop.png", _png(stored.crop))
        self.touch(identity)
        return identity

    def get(self, identity: IdentityRef) -> StoredPortrait:
        """The portrait, and it counts as used.

        Raises:
            NotFound: this tenant has no such portrait (any more).
            Conflict: what is stored is damaged.
            BadInput: no digest.
        """
        folder = _folder(identity)
        try:
            crop = self._storage.get(f"{folder}/crop.png")
        except NotFound:
            raise NotFound(
                f"no portrait {identity.digest[:12]}… is registered here", fix="register it again"
            ) from None
        stored = StoredPortrait(_pixels(crop, folder))
        if self._storage.info(f"{folder}/whole.png") is not None:
            square = json.loads(self._storage.get(f"{folder}/square.json"))
            whole = _pixels(self._storage.get(f"{folder}/whole.png"), folder)
            stored = StoredPortrait(stored.crop, whole, Square(**square))
        if stored.digest != identity.digest:
            raise Conflict(f"{folder} is damaged: its digest is {stored.digest}", fix="register it again")
        self.touch(identity)
        return stored

    def has(self, identity: IdentityRef) -> bool:
        """Whether this tenant has such a portrait. Raises BadInput where `digest` is none."""
        return self._storage.info(f"{_folder(identity)}/crop.png") is not None

    def touch(self, identity: IdentityRef) -> None:
        """Note that it was used; written only now and then."""
        key = f"{_folder(identity)}/used"
        before = self._storage.info(key)
        if before is None or self._now() - before.modified > self._kept / TOUCH_SHARE:
            self._storage.put(key, b"")

    def sweep(self) -> int:
        """Removes portraits that were not used for long enough; how many went."""
        folders: dict[str, list[Item]] = defaultdict(list)
        for item in self._storage.list("identities/"):
            folders[item.key.rpartition("/")[0]].append(item)
        gone = 0
        for items in folders.values():
            if self._now() - max(item.modified for item in items) > self._kept:
                # The crop first: half a portrait is never found.
                for item in sorted(items, key=lambda item: not item.key.endswith("/crop.png")):
                    self._storage.delete(item.key)
                gone += 1
        return gone

    def _now(self) -> datetime:
        return datetime.now(UTC)


def _folder(identity: IdentityRef) -> str:
    if not _TENANT.fullmatch(identity.tenant):
        raise BadInput(
            f"tenant {identity.tenant!r} is no name", fix="use letters, digits, dots, dashes, underscores"
        )
    if not _DIGEST.fullmatch(identity.digest):
        raise BadInput(f"{identity.digest[:80]!r} is no digest of a portrait", fix="give the 64 hex digits")
    return f"identities/{identity.tenant}/{identity.digest}"


def _png(image: Image) -> bytes:
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(image)).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def _pixels(data: bytes, folder: str) -> Image:
    try:
        return read_image(data, folder)
    except BadInput as error:
        raise Conflict(f"{folder} is damaged: {error.what}", fix="register it again") from None
