"""Commands about the deny-list and the audit log open a job store's root, or that of a service without jobs."""

from __future__ import annotations

from ifmdm_core.errors import NotFound
from ifmdm_core.storage import open_storage
from jobs.client import user_name
from jobs.commands.options import named_root, s3_config
from jobs.store import JobStore

SERVICE = "routes.json"
"""What the root of every service has, see `serve.routes`."""


def open_overseen(
    root: str | None, endpoint: str | None = None, profile: str | None = None, role: str | None = None
) -> JobStore:
    """The root that `deny/` and `audit/` lie under.

    Raises BadInput where none is named, NotFound where nothing of ours is, Unsupported for another version's.
    """
    store = JobStore(open_storage(named_root(root), s3_config(endpoint, profile, role)), user_name())
    try:
        store.check_layout()
    except NotFound:
        if store.storage.info(SERVICE) is None:
            raise  # a list in a place that nobody looks at would keep nobody safe
    return store
