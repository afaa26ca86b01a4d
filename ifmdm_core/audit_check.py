"""Reading the audit log, and whether anything was changed in it or taken out of it.

What it cannot show: that the last pages of a chain, or a whole chain that no other names, were taken away. Who may
delete under `audit/` can do that; nobody needs to be allowed to (see infra/iam).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import ValidationError

from ifmdm_core.audit import CHANGES, FOLDER, Event, Page, sha256
from ifmdm_core.storage import Storage

DAY_S = 86_400.0
_KEY = re.compile(rf"{FOLDER}(?P<tenant>[^/]+)/(?P<chain>[^/]+)/(?P<seq>\d{{8}})\.json")


@dataclass(frozen=True)
class ReadPage:
    """A page as it lies there."""

    key: str
    tenant: str
    chain: str
    seq: int
    stored_at: float
    """Seconds since 1970, by the store's clock."""
    sha256: str
    page: Page | None
    """None where it cannot be read."""


@dataclass(frozen=True)
class Told:
    """An event, and where it is written."""

    event: Event
    tenant: str
    stored_at: float
    key: str


@dataclass
class Checked:
    """What `check` found."""

    pages: int = 0
    events: int = 0
    heads: dict[str, str] = field(default_factory=dict)
    """By chain, the sha256 of its last page: kept elsewhere, it shows that a chain was cut off later."""
    problems: list[str] = field(default_factory=list)


def pages(
    storage: Storage, tenants: tuple[str, ...] | None = None, since_day: str = ""
) -> Iterator[ReadPage]:
    """All pages, chain by chain, each in its order.

    Args:
        tenants: None is everybody's.
        since_day: YYYYMMDD; chains of earlier days are passed over.
    """
    for tenant in storage.folders(FOLDER) if tenants is None else tenants:
        for chain in storage.folders(f"{FOLDER}{tenant}/"):
            if chain == CHANGES or chain[:8] >= since_day:
                for item in storage.list(f"{FOLDER}{tenant}/{chain}/"):
                    found = _KEY.fullmatch(item.key)
                    data = storage.get(item.key)
                    yield ReadPage(
                        item.key, tenant, chain, int(found["seq"]) if found else 0, item.modified.timestamp(),
                        sha256(data), _parsed(data) if found else None,
                    )  # fmt: skip


def events(storage: Storage, tenants: tuple[str, ...] | None = None, since: float = 0.0) -> Iterator[Told]:
    """What was written since then, in no particular order; damaged pages are passed over."""
    day = f"{datetime.fromtimestamp(since, UTC):%Y%m%d}" if since else ""
    for found in pages(storage, tenants, day):
        for event in found.page.events if found.page is not None else ():
            if event.at >= since:
                yield Told(event, found.tenant, found.stored_at, found.key)


def check(storage: Storage, now: float, kept_days: float | None = None) -> Checked:
    """Reads the whole log and compares each page with what the next one says of it.

    Args:
        now: seconds since 1970.
        kept_days: pages older than that may have been removed; None: none may.
    """
    checked, seen = Checked(), dict[str, str]()
    last: ReadPage | None = None
    whole = list(pages(storage))
    for found in whole:
        checked.pages += 1
        seen[found.key] = found.sha256
        checked.heads[f"{found.tenant}/{found.chain}"] = found.sha256
        if found.page is None:
            checked.problems.append(f"{found.key} is damaged, or none of ifmdm's")
        else:
            checked.events += len(found.page.events)
    for found in whole:
        same = last is not None and (last.tenant, last.chain) == (found.tenant, found.chain)
        expected = last.seq + 1 if same and last is not None else 1
        last = found
        if found.page is None:
            continue
        before = found.page.before
        gone = before is not None and before.key not in seen
        aged = gone and kept_days is not None and before is not None and now - before.at > kept_days * DAY_S
        if found.seq != expected and not aged:
            checked.problems.append(f"{found.key}: the page before it is missing")
        elif before is None and found.seq > 1:
            checked.problems.append(f"{found.key} names no page before it")
        elif before is not None and gone and not aged:
            checked.problems.append(f"{found.key}: {before.key}, which it follows, is missing")
        elif before is not None and not gone and seen[before.key] != before.sha256:
            checked.problems.append(f"{before.key} was changed after {found.key} was written")
    return checked


def _parsed(data: bytes) -> Page | None:
    try:
        return Page.model_validate_json(data)
    except ValidationError:
        return None
