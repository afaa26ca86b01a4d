"""Whether a portrait may be animated: the deny-list, then the operator's own check. The same for gateway and jobs.

The operator's check is a function that the configuration names (`consent_hook`), never a request or a job:

    def allowed(ask: Ask) -> str | None:
        return None if registry.covers(ask.consent, ask.tenant) else "the consent register does not know this reference"

A text is a refusal, and the user reads it. Whatever it raises that is none of ifmdm's errors refuses for now
(Unavailable): nothing is rendered unchecked.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.consent import Permission, of_consent
from ifmdm_core.denylist import DenyList
from ifmdm_core.errors import BadInput, Forbidden, IfmdmError, Unavailable
from ifmdm_core.media.look import NEAR, looks
from ifmdm_core.storage import Storage

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ask:
    """What the operator's check is asked about."""

    tenant: str
    who: str
    """A token's name; empty for a job."""
    job: str
    """A render job's id; empty for the gateway."""
    consent: str | None
    """The reference that came with the request."""
    sha256: str
    """Of the portrait's file; empty for a registered portrait."""
    look: str
    """Of the aligned face, see `ifmdm_core.media.look`."""


ConsentHook = Callable[[Ask], str | None]


class PortraitCheck:
    """Blocking: not for event loops. For any number of threads.

    Args:
        root: the root that `deny/` lies under.
        hook: `module:function`, None for no check of the operator's. Raises BadInput for one that cannot be loaded.
    """

    def __init__(self, root: Storage, hook: str | None = None) -> None:
        self.denied = DenyList(root, NEAR)
        self._hook = None if hook is None else load_hook(hook)

    def file(self, name: str, sha256: str) -> None:
        """Before a file is decoded. Raises Forbidden, Unavailable."""
        self.denied.refuse(name, sha256)

    def face(
        self, name: str, crop: NDArray[np.uint8], tenant: str, permission: Permission, *, sha256: str = "",
        job: str = "",
    ) -> None:  # fmt: skip
        """Before anything is computed from its crop. Raises Forbidden, Unavailable."""
        both = looks(crop)
        self.denied.refuse(name, sha256, both)
        if self._hook is not None:
            self._ask(Ask(tenant, permission.who, job, permission.consent, sha256, both[0]), name)

    def _ask(self, ask: Ask, name: str) -> None:
        assert self._hook is not None
        try:
            reason = self._hook(ask)
        except IfmdmError:
            raise
        except Exception as error:
            _log.exception("the operator's check of portraits failed")
            raise Unavailable(
                f"{name} cannot be checked now ({type(error).__name__})",
                fix="try again later",
                retry_after=30.0,
            ) from None
        if reason is not None:
            raise of_consent(Forbidden(f"{name} may not be animated: {reason}", fix="ask the operator"))


def load_hook(path: str) -> ConsentHook:
    """The function at `module:function`. Raises BadInput."""
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(
            f"consent_hook {path!r} cannot be loaded: {error}", fix="write it as module:function"
        ) from None
    if not callable(found):
        raise BadInput(f"consent_hook {path!r} is no function")
    hook: ConsentHook = found
    return hook
