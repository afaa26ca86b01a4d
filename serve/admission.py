"""Who may start a render now: slots taken before an upload is read, given back when the render ends.

Behind the slots nothing is refused: a render that was let in is finished (contract 4).
"""

from __future__ import annotations

from collections import Counter
from types import TracebackType

from ifmdm_core.errors import Busy

RETRY_AFTER_S = 2.0
"""Seconds after which a caller without a slot may try again; a short render takes about that long."""


class Slot:
    """Leave for one render. Giving it back twice is harmless; as a context manager it is given back at the end."""

    def __init__(self, admission: Admission, tenant: str) -> None:
        self._admission: Admission | None = admission
        self.tenant = tenant

    def release(self) -> None:
        """The render has ended, or never began."""
        if self._admission is not None:
            self._admission.give_back(self.tenant)
            self._admission = None

    def __enter__(self) -> Slot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Admission:
    """The slots of one gateway replica; to be used from its event loop.

    Args:
        streams: renders under way at once, of all tenants together.
    """

    def __init__(self, streams: int) -> None:
        self.streams = streams
        self._held: Counter[str] = Counter()
        self.closed = False
        """Whether this replica is leaving and lets nobody in."""

    @property
    def held(self) -> int:
        """Slots that are taken."""
        return self._held.total()

    def take(self, tenant: str, most: int | None = None) -> Slot:
        """A slot for `tenant`, who may hold `most` (None: all there are).

        Raises:
            Busy: all are taken, the tenant's or everybody's.
        """
        if self.closed:
            raise Busy("this replica is leaving", fix="try again", retry_after=RETRY_AFTER_S)
        if most is not None and self._held[tenant] >= most:
            raise Busy(
                f"{most} renders of {tenant!r} are under way, as many as it may have at once",
                fix="wait until one of them ends",
                retry_after=RETRY_AFTER_S,
            )
        if self.held >= self.streams:
            raise Busy(
                f"all {self.streams} streams are taken",
                fix="try again in a few seconds",
                retry_after=RETRY_AFTER_S,
            )
        self._held[tenant] += 1
        return Slot(self, tenant)

    def close(self) -> None:
        """Let nobody in any more."""
        self.closed = True

    def give_back(self, tenant: str) -> None:
        """One slot of `tenant` is free again; called by `Slot.release`."""
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]
