"""Tells callbacks that their jobs have ended: at least once, signed, to hosts that the operator allows.

    POST <callback>     {"id", "job", "tenant", "state", "output", "sha256", "fault", "labels", "at"}
    X-Ifmdm-Signature: sha256=<HMAC-SHA256 of the body, hexadecimal, with the tenant's secret as key>

The tenant's secret is HMAC-SHA256 of its name with the operator's secret as key, in hexadecimal: a tenant can be given
its own without learning those of others. `id` is the same however often the same end is told. What a callback answers
but 2xx is told again, less and less often, for a day.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import logging
from typing import Protocol
from urllib.parse import urlsplit

from ifmdm_core.errors import Conflict, Forbidden, IfmdmError, NotFound, Unavailable, Unsupported
from jobs.entries import JobRecord, JobState
from jobs.gc import WEBHOOK_S
from jobs.names import Webhook
from jobs.pinned_post import post as pinned_post
from jobs.scan import store_time
from jobs.store import JobStore
from jobs.tenants import read_policy

SIGNATURE = "X-Ifmdm-Signature"
PAUSE_S = 20.0
"""Least time between two tries of one worker; later ones are a quarter of the hint's age apart."""
PASS_S = 30.0
"""Longest that one pass may take: the worker has other errands."""

_log = logging.getLogger(__name__)


class Post(Protocol):
    """How something is sent; see `pinned_post.post`."""

    def __call__(self, url: str, body: bytes, headers: dict[str, str], *, private: bool) -> int: ...


class Deliverer:
    """One worker's share of the telling. For one thread.

    Args:
        secret: the operator's, at least 16 bytes.
        private: whether callbacks may be on this machine and in private networks.
        post: what sends.

    Raises Conflict for a secret that is too short.
    """

    def __init__(
        self, store: JobStore, secret: bytes, *, private: bool = False, post: Post = pinned_post
    ) -> None:
        if len(secret) < 16:
            raise Conflict(
                f"the secret of webhooks has {len(secret)} bytes", fix="16 at least: openssl rand -hex 32"
            )
        self.store, self._secret, self._private, self._post = store, secret, private, post
        self._next: dict[Webhook, float] = {}

    def deliver(self) -> int:
        """One pass over what is to be told; how many were. Raises Unavailable when the store does not answer."""
        storage, clock = self.store.storage, self.store.clock
        hints = [(hint, i) for i in storage.list("webhooks/") if (hint := Webhook.parse(i.key)) is not None]
        self._next = {hint: self._next[hint] for hint, _ in hints if hint in self._next}
        if not hints:
            return 0
        now, began, told, silent = store_time(storage), clock.monotonic(), 0, set[str]()
        clock.chance.shuffle(hints)  # other workers do the same
        for hint, item in hints:
            if clock.monotonic() - began > PASS_S:
                break
            age = now - item.modified.timestamp()
            if age > WEBHOOK_S:
                _log.warning("%s: its callback did not take it for a day and is told no more", hint.job)
                storage.delete(hint.key)
            elif self._next.get(hint, 0.0) <= clock.monotonic() and self._tell(hint, age, silent):
                told += 1
        return told

    def _tell(self, hint: Webhook, age: float, silent: set[str]) -> bool:
        """Tells one, unless its host did not answer in this pass; True when it was taken."""
        storage = self.store.storage
        host = ""
        try:
            if storage.info(hint.key) is None:
                return False  # another worker was quicker
            record = self.store.record(hint.job)
            host = urlsplit(record.job.callback or "").hostname or ""
            if host in silent:
                return False
            self._send(record, hint)
        except (NotFound, Conflict, Unsupported) as error:
            _log.warning("%s: its callback cannot be told: %s", hint.job, error)
            storage.delete(hint.key)
            return False
        except IfmdmError as error:
            _log.info("%s: its callback is told later: %s", hint.job, error)
            silent.add(host)
            pause = max(PAUSE_S, age / 4) * self.store.clock.chance.uniform(0.75, 1.5)
            # All workers together try about as often as one alone would.
            self._next[hint] = self.store.clock.monotonic() + pause * max(
                1, len(list(storage.list("workers/")))
            )
            return False
        storage.delete(hint.key)
        return True

    def _send(self, record: JobRecord, hint: Webhook) -> None:
        """Raises NotFound where nothing is left to be told, Unavailable and Forbidden: later."""
        url = record.job.callback
        if url is None:
            raise NotFound(f"{hint.job} has no callback")
        host, tenant = (urlsplit(url).hostname or "").lower(), hint.job.tenant
        hosts = {allowed.lower() for allowed in read_policy(self.store.storage, tenant).webhook_hosts}
        if host not in hosts:
            raise Forbidden(
                f"host {host!r} is none that tenant {tenant!r} may call", fix="webhook_hosts in its policy"
            )
        body = json.dumps(message(record, hint.seq, self._state(hint)), ensure_ascii=False).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "ifmdm",
            SIGNATURE: signature(tenant_secret(self._secret, tenant), body),
        }
        status = self._post(url, body, headers, private=self._private or _is_address(host))
        if not 200 <= status < 300:
            raise Unavailable(f"{host} answered {status}")

    def _state(self, hint: Webhook) -> JobState:
        try:
            return self.store.entry(hint.job, hint.seq).state
        except NotFound:
            return self.store.view(hint.job).state  # its log has been cleaned up


def message(record: JobRecord, seq: int, state: JobState) -> dict[str, object]:
    """What is told of the entry `seq`."""
    published = state.state == "published"
    return {
        "id": hashlib.sha256(f"{record.tenant}/{record.id}/{seq}".encode()).hexdigest(),
        "job": record.id,
        "tenant": record.tenant,
        "state": state.state,
        "output": record.job.output,
        "sha256": state.video.sha256 if state.video is not None and published else None,
        "fault": state.fault.model_dump(mode="json") if state.fault is not None and not published else None,
        "labels": record.job.labels,
        "at": state.ended_at,
    }


def tenant_secret(secret: bytes, tenant: str) -> str:
    """What a tenant checks signatures with."""
    return hmac.new(secret, tenant.encode(), hashlib.sha256).hexdigest()


def signature(tenant_secret: str, body: bytes) -> str:
    """The header's value for a body."""
    return f"sha256={hmac.new(tenant_secret.encode(), body, hashlib.sha256).hexdigest()}"


def _is_address(host: str) -> bool:
    """Whether a host that is allowed is an IP address itself: then the operator meant just that one."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
