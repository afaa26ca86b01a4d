"""Times and durations as people write them in options."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from ifmdm_core.errors import BadInput

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def parse_time(text: str, now: float, option: str) -> float:
    """Seconds since 1970: `+90m` from now, `2026-12-24T18:00+01:00` (UTC where no zone is named), or the number.

    Raises BadInput.
    """
    if text.startswith("+"):
        return now + parse_duration(text[1:], option)
    try:
        return float(text)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(
            f"{option} is {text!r}", fix="write +90m, 2026-12-24T18:00Z, or seconds since 1970"
        ) from None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def parse_duration(text: str, option: str) -> float:
    """Seconds of `90m`, `2h`, `1.5d`. Raises BadInput."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise BadInput(f"{option} is {text!r}", fix="write a number and s, m, h, d or w, such as 90m")
    return float(found[1]) * _UNITS[found[2]]


def span(seconds: float) -> str:
    """A duration for people, in its largest unit: `45 s`, `3 min`, `2.5 h`, `4 d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"
