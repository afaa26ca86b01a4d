"""Walks over a whole store, in the order of its keys, one job at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from ifmdm_core.errors import IfmdmError
from ifmdm_core.storage import Item, Storage
from jobs.names import STORE, JobRef, check_id, check_tenant


def jobs_under(
    storage: Storage,
    root: str = "jobs",
    tenants: list[str] | None = None,
    stranger: Callable[[Item], None] = lambda item: None,
) -> Iterator[tuple[JobRef, list[Item]]]:
    """Every job with what lies in <root>/<tenant>/<id>/; one listing, in order.

    Args:
        tenants: only theirs; None is everybody's.
        stranger: told of what lies there and is no job's.
    """
    prefixes = [f"{root}/"] if tenants is None else [f"{root}/{tenant}/" for tenant in tenants]
    items = itertools.chain.from_iterable(storage.list(prefix) for prefix in prefixes)
    for folder, found in itertools.groupby(items, key=lambda item: item.key.split("/", 3)[1:3]):
        if (ref := parse_ref(folder)) is not None:
            yield ref, list(found)
        else:
            for item in found:
                stranger(item)


def parse_ref(folder: list[str]) -> JobRef | None:
    """The job of [tenant, id]; None for other names."""
    try:
        tenant, identifier = folder
        return JobRef(check_tenant(tenant), check_id(identifier))
    except (ValueError, IfmdmError):
        return None


def store_time(storage: Storage) -> float:
    """Seconds since 1970 by the store's own clock, to compare with `Item.modified`.

    Raises NotFound where there is no store, Unavailable.
    """
    item, age = storage.info(STORE), storage.age(STORE)
    if item is None or age is None:
        storage.get(STORE)  # says what is missing
        return store_time(storage)
    return item.modified.timestamp() + age
