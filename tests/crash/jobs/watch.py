"""Looks at every change of the buckets at the instant it happens, and says what may not be."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ifmdm_core.storage.memory import Bucket, Object, Op, sha256_of
from ifmdm_core.uri import Uri
from jobs.entries import TERMINAL
from tests.crash.jobs.faults import Faults
from tests.crash.jobs.hub import Actor, Process

FOLLOWS: dict[str, frozenset[str]] = {
    "queued": frozenset(("claimed", "queued", "cancelled", "suspended", "expired")),
    "running": frozenset(("done", "failed", "released", "lost", "cancelled", "suspended", "expired")),
    "done": frozenset(("published", "failed")),
    "suspended": frozenset(("queued", "cancelled")),
    "published": frozenset(("closed",)),
    **dict.fromkeys(("failed", "dead", "cancelled", "expired"), frozenset(("queued", "closed"))),
}
"""State of the last entry: kinds of entries that may follow."""
SHAKEN_S = 30.0
"""Seconds after a process was last hindered at which what it claims may still be taken away: its heartbeat is old."""
CLAIMANTS_OWN = frozenset(("done", "failed", "released", "cancelled", "suspended", "expired"))
"""Verdicts that nobody but the claimant may write."""


@dataclass
class Followed:
    """A job, as the changes of the store tell it."""

    name: str
    """<tenant>/<id>"""
    spec: dict[str, Any] | None = None
    log: list[dict[str, Any]] = field(default_factory=list)
    orders: list[int] = field(default_factory=list)
    """Of each entry: its place among all events."""
    claimed_at: float = 0.0
    """Simulated time of its last claim."""
    final: bool = False
    published: int | None = None
    """Place of its `published` among all events."""

    @property
    def state(self) -> dict[str, Any]:
        """Of the last entry."""
        return self.log[-1]["state"] if self.log else {"state": "queued", "epoch": 0}  # type: ignore[no-any-return]

    @property
    def output(self) -> str:
        """Key in the bucket of outputs."""
        return Uri.parse(self.spec["job"]["output"]).path if self.spec else ""

    @property
    def sha256(self) -> str | None:
        """Of the video in its last `done`."""
        done = [entry for entry in self.log if entry["kind"] == "done"]
        return done[-1]["state"]["video"]["sha256"] if done else None


class Watch:
    """The judge while things happen.

    Args:
        processes: by name.

    Attributes:
        wrong: what may not be; empty in the end, or the schedule has failed.
        order: number of events so far.
        late_places: times that a publisher past its last look wrote to the output after another had told what became
            of it.
    """

    def __init__(self, faults: Faults, store: Bucket, outputs: Bucket, processes: dict[str, Process]) -> None:
        self.wrong: list[str] = []
        self.jobs: dict[str, Followed] = {}
        self.order = 0
        self.late_places = 0
        self.takeovers: list[float] = []
        """Seconds from the last death of any process to each `lost` of a dead claimant's job."""
        self.kinds: Counter[str] = Counter()
        self.stood_still: set[str] = set()
        """Ids of jobs that may be taken from a live worker."""
        self.by_user: dict[str, int] = {}
        """Keys of outputs that a user has touched, and when last."""
        self._faults, self._store, self._outputs = faults, store, outputs
        self._processes = processes
        self._looks: dict[Actor, tuple[str, int]] = {}
        store.watch, outputs.watch = self._stored, self._put_out
        faults.seen, faults.issuing = self._saw, self._issued

    def say(self, what: str) -> None:
        """It may not be."""
        self.wrong.append(f"{self._faults.hub.now:.3f} {what}")

    def followed(self, name: str) -> Followed:
        return self.jobs.setdefault(name, Followed(name))

    def _saw(self, actor: Actor, op: Op, key: str, result: Any) -> None:
        self.order += 1
        if op == "info" and "/log/" in key and result is None:
            self._looks[actor] = (key, self.order)

    def _issued(self, actor: Actor, op: Op, key: str) -> Any:
        return self._looks.get(actor) if op == "place" else None

    def _stored(self, key: str, before: Object | None) -> None:
        self.order += 1
        now = self._store.objects.get(key)
        parts = key.split("/")
        if parts[0] == "jobs" and len(parts) >= 4:
            job = self.followed(f"{parts[1]}/{parts[2]}")
            if parts[3] == "spec.json":
                self._spec(job, now, before)
            elif parts[3] == "final.json":
                self._final(job, now, before)
            elif parts[3] == "log":
                self._log(job, int(parts[4].removesuffix(".json")), now, before)
        elif parts[0] == "attempts" and key.endswith("/video.mp4"):
            self._video(self.followed(f"{parts[1]}/{parts[2]}"), key, now)

    def _spec(self, job: Followed, now: Object | None, before: Object | None) -> None:
        if now is None:
            if not job.final:
                self.say(f"{job.name}: spec.json deleted before final.json was there")
            return
        if before is not None:
            self.say(f"{job.name}: spec.json written twice")
        job.spec = json.loads(now.data)

    def _final(self, job: Followed, now: Object | None, before: Object | None) -> None:
        if now is None:
            return
        if before is not None and before.data != now.data:
            self.say(f"{job.name}: final.json written twice")
        if not job.log and job.spec is not None and before is None and not job.final:
            self.say(f"{job.name}: final although its log is empty")
        elif job.log and job.state["state"] not in TERMINAL:
            self.say(f"{job.name}: final although it is {job.state['state']}")
        job.final = True

    def _log(self, job: Followed, seq: int, now: Object | None, before: Object | None) -> None:
        if now is None:
            if not job.final:
                self.say(f"{job.name}: entry {seq} deleted before the job was final")
            return
        if job.final:
            return  # whoever came too late for the end; nobody reads it
        if before is not None:
            self.say(f"{job.name}: entry {seq} overwritten")
            return
        entry = json.loads(now.data)
        if seq != len(job.log) + 1 or entry["seq"] != seq:
            self.say(f"{job.name}: entry {seq} after {len(job.log)}")
        self._follows(job, entry)
        job.log.append(entry)
        job.orders.append(self.order)
        if entry["kind"] == "claimed":
            job.claimed_at = self._faults.hub.now
        self.kinds[entry["kind"]] += 1

    def _follows(self, job: Followed, entry: dict[str, Any]) -> None:
        state, kind, last = job.state, entry["kind"], job.log[-1] if job.log else None
        where = f"{job.name}: {kind} by {entry['by']} at {entry['seq']}"
        if last is not None and last["kind"] == "closed":
            self.say(f"{where} after closed")
        if kind not in FOLLOWS[state["state"]]:
            self.say(f"{where} after {state['state']}")
            return
        if entry["state"]["epoch"] != state["epoch"] + (kind == "claimed"):
            self.say(f"{where}: epoch {entry['state']['epoch']} after {state['epoch']}")
        if state["state"] == "running":
            assert last is not None
            if kind in CLAIMANTS_OWN and entry["by"] != last["by"]:
                self.say(f"{where}, but {last['by']} had claimed it")
            if kind == "lost":
                self._lost(job, last, where)
        if kind == "done":
            video = entry["state"]["video"]
            there = self._store.objects.get(video["key"])
            if there is None or sha256_of(there.data) != video["sha256"]:
                self.say(f"{where}: {video['key']} holds something else")
        if kind == "published":
            self._published(job, where)

    def _lost(self, job: Followed, claim: dict[str, Any], where: str) -> None:
        process = self._processes[claim["by"]]
        now = self._faults.hub.now
        if process.dead_at is not None:
            kills = (other.dead_at for other in self._processes.values() if other.dead_at is not None)
            self.takeovers.append(now - max(kills))
        excused = (
            process.dead
            or process.troubled_at > job.claimed_at - SHAKEN_S
            or job.name.partition("/")[2] in self.stood_still
        )
        if not excused:
            self.say(f"{where}, but {process.name} lives and nothing hindered it")

    def _published(self, job: Followed, where: str) -> None:
        if job.published is not None:
            self.say(f"{where}: published twice")
        job.published = self.order
        there = self._outputs.objects.get(job.output)
        found = sha256_of(there.data) if there is not None else None
        if found == job.sha256 or job.output in self.by_user:
            return
        owner = self._owner(found)
        if owner is None or not _later(owner, job):
            self.say(f"{where}: the output holds {str(found)[:12]}, not {str(job.sha256)[:12]}")

    def _owner(self, sha256: str | None) -> Followed | None:
        """The job that this video is of."""
        found = self._done(sha256)
        return found[0] if found is not None else None

    def _done(self, sha256: str | None) -> tuple[Followed, int] | None:
        """The job that this video is of, and the number of the `done` entry that names it."""
        for job in self.jobs.values():
            for entry in job.log:
                if entry["kind"] == "done" and entry["state"]["video"]["sha256"] == sha256:
                    return job, entry["seq"]
        return None

    def _video(self, job: Followed, key: str, now: Object | None) -> None:
        if job.final:
            return
        if job.state["state"] == "done" and job.state["video"]["key"] == key:
            if now is None:
                self.say(f"{job.name}: the video of its done epoch deleted before it was published")
            elif sha256_of(now.data) != job.state["video"]["sha256"]:
                self.say(f"{job.name}: the video of its done epoch overwritten")

    def _put_out(self, key: str, before: Object | None) -> None:
        self.order += 1
        if self._faults.acting is None:
            self.by_user[key] = self.order
            return
        now = self._outputs.objects.get(key)
        if now is None:
            self.say(f"output {key} deleted by {self._faults.acting.name}")
            return
        found = self._done(sha256_of(now.data))
        if found is None or found[0].output != key:
            self.say(f"output {key}: {self._faults.acting.name} wrote bytes that no `done` names")
            return
        job, done = found
        former = self._owner(before.sha256 if before is not None else None)
        if former is not None and _later(former, job):
            self.say(f"output {key}: {job.name} overwrote the video of the later job {former.name}")
        if len(job.log) > done:
            look, after = self._faults.issued, job.log[done]["kind"]
            # Who had looked, and seen nothing, just before that entry was written could not know of it.
            slot = f"jobs/{job.name}/log/{done + 1:08d}.json"
            if look is not None and look[0].endswith(slot) and look[1] < job.orders[done]:
                self.late_places += 1
            else:
                self.say(f"output {key}: {self._faults.acting.name} wrote it after `{after}`")


def _later(one: Followed, other: Followed) -> bool:
    """Whether the right to publish at their output went from `other` to `one`."""
    return bool(one.spec and other.spec and one.spec["holder"] > other.spec["holder"])
