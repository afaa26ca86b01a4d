"""Portraits on their way in: checked, decoded, aligned, checked again, kept, and told in the audit log."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ifmdm_core.audit import AuditLog
from ifmdm_core.consent import Permission
from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput, Conflict, Forbidden
from ifmdm_core.provenance import sha256_of_file
from serve.identities import IdentityStore, StoredPortrait
from serve.intake import Intake
from serve.messages import IdentityRef
from serve.metrics import GatewayMetrics
from serve.portrait_check import PortraitCheck

NOBODY = Permission()


@dataclass(frozen=True)
class FoundPortrait:
    """One that may be animated."""

    identity: IdentityRef
    stored: StoredPortrait
    note: str
    """For the user, such as which of several faces was taken."""


class Portraits:
    """Opens portraits for one gateway; lives in its event loop."""

    def __init__(
        self,
        identities: IdentityStore,
        intake: Intake,
        check: PortraitCheck,
        audit: AuditLog,
        metrics: GatewayMetrics,
    ) -> None:
        self._identities, self._intake, self._check = identities, intake, check
        self._audit, self._metrics = audit, metrics

    async def find(
        self,
        tenant: str,
        portrait: Path | str,
        controls: RenderControls,
        size: int,
        name: str,
        permission: Permission = NOBODY,
    ) -> FoundPortrait:
        """A picture, aligned (`controls.face`, `paste_back`) and kept; or a registered portrait by its digest.

        Args:
            size: side of the model's crop in pixels.
            name: what messages call it.

        Raises Forbidden for one that may not be animated, BadInput as `portrait.open_portrait`, NotFound, Conflict,
        Unavailable.
        """
        if isinstance(portrait, Path):
            return await self._opened(tenant, portrait, controls, size, name, permission)
        return await self._registered(IdentityRef(tenant, portrait), controls, size, name, permission)

    async def _opened(
        self,
        tenant: str,
        path: Path,
        controls: RenderControls,
        size: int,
        name: str,
        permission: Permission,
    ) -> FoundPortrait:
        sha256 = await asyncio.to_thread(sha256_of_file, path)
        with self._refusals(tenant, permission, sha256):
            permission.check()
            await asyncio.to_thread(self._check.file, name, sha256)
            portrait = await self._intake.portrait(path, controls, size, name)
            await asyncio.to_thread(self._check.face, name, portrait.crop, tenant, permission, sha256=sha256)
        stored = StoredPortrait.of(portrait)
        known = await asyncio.to_thread(self._identities.has, IdentityRef(tenant, stored.digest))
        identity = await asyncio.to_thread(self._identities.put, tenant, portrait)
        self._metrics.identity(new=not known)
        self._audit.note(
            tenant, "portrait registered", permission.who, identity.digest, {"file": sha256},
            f"{'known before' if known else 'new'}{of_consent(permission)}",
        )  # fmt: skip
        return FoundPortrait(identity, stored, portrait.note)

    async def _registered(
        self,
        identity: IdentityRef,
        controls: RenderControls,
        size: int,
        name: str,
        permission: Permission,
    ) -> FoundPortrait:
        with self._refusals(identity.tenant, permission, identity.digest):
            permission.check()
            stored = await asyncio.to_thread(self._identities.get, identity)
            # Again, however long ago it was registered: the list grows.
            await asyncio.to_thread(self._check.face, name, stored.crop, identity.tenant, permission)
        if len(stored.crop) != size:
            raise Conflict(
                f"the portrait was registered for a model of {len(stored.crop)} pixels, this one has {size}",
                fix="register it again",
            )
        if controls.paste_back and stored.whole is None:
            raise BadInput(
                "paste_back needs the whole picture", fix="register the portrait with paste_back=true"
            )
        return FoundPortrait(identity, stored, "")

    @contextmanager
    def _refusals(self, tenant: str, permission: Permission, subject: str) -> Iterator[None]:
        """What is refused inside is told in the audit log."""
        try:
            yield
        except Forbidden as error:
            self._audit.note(
                tenant, "refused", permission.who, subject, note=f"{error.what}{of_consent(permission)}"
            )
            raise


def of_consent(permission: Permission) -> str:
    """What a note says of the reference."""
    return "" if permission.consent is None else f", consent {permission.consent}"
