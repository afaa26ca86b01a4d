"""What workers do besides jobs, after each pass of the sweeper: inbox, webhooks, backlog, a look at everything."""

from __future__ import annotations

from ifmdm_core.storage import Storage, open_storage
from jobs.fsck import repair_when_due
from jobs.inbox import Inbox
from jobs.running.options import WorkOptions
from jobs.running.process import Errand
from jobs.store import JobStore
from jobs.tenants import Places
from jobs.webhooks import Deliverer
from serve.scaling import write_backlog

COUNTED = 5000
"""Waiting jobs that are counted; where there are more, more replicas would not be asked for."""


def errands(options: WorkOptions, store: JobStore, places: Places) -> list[Errand]:
    """The errands of one worker."""
    service = open_storage(options.serve.root, options.s3)
    found: list[Errand] = [Inbox(store, places).sweep, lambda: tell_backlog(store, service)]
    if options.webhook_secret is not None:
        found.append(
            Deliverer(
                store, options.webhook_secret.read_bytes().strip(), private=options.private_webhooks
            ).deliver
        )
    if options.fsck_s:
        every_s = options.fsck_s
        found.append(_now_and_then(store, every_s / 4, lambda: repair_when_due(store, places, every_s)))
    return found


def tell_backlog(store: JobStore, service: Storage) -> None:
    """How many jobs wait, for the stages to scale by."""
    waiting = sum(1 for _ in store.storage.list("queue/", limit=COUNTED))
    write_backlog(service, waiting, store.clock.now())


def _now_and_then(store: JobStore, every_s: float, errand: Errand) -> Errand:
    """`errand` about every so many seconds; at first after a random part of them, so that workers take turns."""
    clock = store.clock
    next_at = clock.monotonic() + clock.chance.uniform(0.2, 1.0) * every_s

    def run() -> None:
        nonlocal next_at
        if clock.monotonic() >= next_at:
            next_at = clock.monotonic() + clock.chance.uniform(0.8, 1.2) * every_s
            errand()

    return run
