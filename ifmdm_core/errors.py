"""Every error a user can meet: what is wrong, with which value, and how to fix it.

One class per outcome. Each knows its process exit code, its HTTP status and how a render job treats it, so the
command line, the gateway and the workers never translate between each other.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar, Literal

JobOutcome = Literal["bad_input", "not_found", "transient", "expired", "cancelled", "bug"]
"""`bad_input` is never retried, `not_found` once more after 60 s, `transient` with backoff, `bug` twice more."""


class IfmdmError(Exception):
    """Base of all errors; on its own it means a fault of ours.

    Args:
        what: what is wrong, quoting the file or value. One line, no full stop.
        fix: what the reader can do about it. One line, no full stop.
    """

    exit_code: ClassVar[int] = 70
    http_status: int = 500
    job: ClassVar[JobOutcome] = "bug"
    field: str = ""
    """The setting or field it is about, dotted, where it is about one."""

    def __init__(self, what: str, *, fix: str = "") -> None:
        self.what = " ".join(what.split())
        self.fix = " ".join(fix.split())
        super().__init__(str(self))

    def __str__(self) -> str:
        return f"{self.what}; {self.fix}" if self.fix else self.what

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process borders (decoders run in children); the keyword argument needs help to.
        return (_rebuild, (type(self), self.what, self.fix, self.__dict__))


def _rebuild(cls: type[IfmdmError], what: str, fix: str, state: dict[str, object]) -> IfmdmError:
    error = cls(what, fix=fix)
    error.__dict__.update(state)
    return error


class BadInput(IfmdmError):
    """The given file, value or option cannot be used as it is. `too_large` turns HTTP 422 into 413."""

    exit_code = 2
    http_status = 422
    job = "bad_input"

    def __init__(self, what: str, *, fix: str = "", too_large: bool = False) -> None:
        super().__init__(what, fix=fix)
        if too_large:
            self.http_status = 413


class NotFound(IfmdmError):
    """The named file, object or model does not exist."""

    exit_code = 3
    http_status = 404
    job = "not_found"


class Forbidden(IfmdmError):
    """The caller may not read or write what was named."""

    exit_code = 4
    http_status = 403
    job = "bad_input"


class Conflict(IfmdmError):
    """Something else is already there, or two givens contradict each other (a digest and its bytes)."""

    exit_code = 5
    http_status = 409
    job = "bad_input"


class Unsupported(IfmdmError):
    """Well-formed, but not something this version can do."""

    exit_code = 6
    http_status = 422
    job = "bad_input"


class Busy(IfmdmError):
    """No room right now; the same request may succeed after `retry_after` seconds."""

    exit_code = 75
    http_status = 429
    job = "transient"

    def __init__(self, what: str, *, fix: str = "", retry_after: float = 1.0) -> None:
        super().__init__(what, fix=fix)
        self.retry_after = retry_after


class Unavailable(Busy):
    """A part this needs does not answer; the outcome of a write may be unknown."""

    http_status = 503


class DiskFull(Unavailable):
    """A disk or quota has no room for what is to be written; trying again does not help until there is some."""

    http_status = 507


class Expired(IfmdmError):
    """The deadline passed before the work was done."""

    exit_code = 8
    http_status = 504
    job = "expired"


class Cancelled(IfmdmError):
    """The caller gave up (Ctrl-C, a closed stream)."""

    exit_code = 130
    http_status = 499
    job = "cancelled"


def nearest(name: str, valid: Iterable[str]) -> str:
    """`did you mean 'steps'?` when a valid name is close, else the list of valid names."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(names)}"
