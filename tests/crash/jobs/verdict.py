"""What must hold when all has become quiet."""

from __future__ import annotations

from ifmdm_core.storage.memory import sha256_of
from jobs.entries import TERMINAL
from jobs.heartbeat import TAKEOVER_S
from jobs.names import Later, Marker, minute, next_holder, output_holder
from tests.crash.jobs.watch import Followed
from tests.crash.jobs.world import RESTART_S, World

TAKEN_OVER_S = TAKEOVER_S + 2 * RESTART_S + 45.0
"""Seconds after its worker's death by which a job is taken over, where nothing but kills happens: the heartbeat's age,
a sweeper that may have died too, its next pass."""


def judge(world: World) -> list[str]:
    """All that is wrong; empty when nothing is."""
    wrong = [*world.watch.wrong, *world.hub.crashed]
    if wrong:
        return wrong  # what follows from that is of no interest
    if world.quiet_at is None:
        wrong.append("it does not become quiet")
    for name in world.wishes.submitted:
        if world.watch.followed(name).spec is None:
            wrong.append(f"{name}: submitted, but not there")
    for job in world.watch.jobs.values():
        if job.spec is not None:
            wrong += [f"{job.name}: {what}" for what in _job(world, job)]
    wrong += _outputs(world) + _hints(world) + _stops(world)
    if world.plan.kind == "kills" and any(took > TAKEN_OVER_S for took in world.watch.takeovers):
        wrong.append(f"taken over only after {max(world.watch.takeovers):.0f} s")
    return wrong


def judge_forgotten(world: World) -> list[str]:
    """What is left a year later of jobs that have ended."""
    wrong = [*world.watch.wrong, *world.hub.crashed]
    entered = {job.name.partition("/")[2]: job for job in world.watch.jobs.values() if job.spec is not None}
    suspended = [id for id, job in entered.items() if job.state["state"] == "suspended"]
    store = world.buckets["store"]
    for folder in ("jobs/", "attempts/", "ended/", "webhooks/"):
        wrong += [
            f"left a year later: {key}"
            for key in store.under(folder)
            if not any(id in key for id in suspended)
        ]
    for key in store.under("kept/"):
        if next_holder(store.objects[key].data.decode()) not in store.objects:
            wrong.append(f"left a year later: {key}")
    for id, job in entered.items():
        assert job.spec is not None
        holder = output_holder(job.spec["job"]["output"], job.spec["holder"])
        # An earlier right stays as long as a later one does, and that of a submit that died does.
        if id not in suspended and holder in store.objects and next_holder(holder) not in store.objects:
            wrong.append(f"left a year later: {holder} of {job.name}")
    return wrong


def _job(world: World, job: Followed) -> list[str]:
    store, state = world.buckets["store"].objects, job.state["state"]
    if state not in TERMINAL and state != "suspended":
        return [f"lost: it is still {state}"]
    if job.final:
        return []
    wrong = []
    seqs = [int(key[-13:-5]) for key in world.buckets["store"].under(f"jobs/{job.name}/log/")]
    if seqs != list(range(1, len(job.log) + 1)):
        wrong.append(f"its log is {seqs}")
    if sum(entry["kind"] == "published" for entry in job.log) != (state == "published"):
        wrong.append(f"{state}, but not published as often")
    tenant, _, id = job.name.partition("/")
    if state in TERMINAL and job.log[-1]["kind"] != "closed":
        ended = [key for key in world.buckets["store"].under(f"ended/{tenant}/") if key.endswith(f"/{id}")]
        if not any(f"/{state}/" in key for key in ended):
            wrong.append(f"{state}, but its hints say {ended}")
        assert job.spec is not None
        if job.spec["job"].get("callback") and f"webhooks/{tenant}-{id}-{len(job.log):08d}" not in store:
            wrong.append(f"{state}, and its callback is not told")
    return wrong


def _outputs(world: World) -> list[str]:
    out, wrong = world.buckets["films"], []
    jobs = [job for job in world.watch.jobs.values() if job.spec is not None]
    strangers = set(out.keys) - {job.output for job in jobs}
    if strangers:
        wrong.append(f"under the output prefix: {sorted(strangers)}")
    for job in jobs:
        mine = [other for other in jobs if other.output == job.output and other.published is not None]
        if job not in mine or job.output in world.watch.by_user:
            continue  # from `published` on every write was judged when it happened
        there = out.objects.get(job.output)
        if there is None or sha256_of(there.data) not in [other.sha256 for other in mine]:
            wrong.append(f"{job.name}: published, and its output holds something else")
    return wrong


def _hints(world: World) -> list[str]:
    store = world.buckets["store"]
    known = {job.name.partition("/")[2]: job for job in world.watch.jobs.values() if job.spec is not None}
    wrong = [f"left: {key}" for key in store.under("running/")]
    soon_s = 120.0 + world.plan.skew_s
    for key in [*store.under("queue/"), *store.under("later/")]:
        hint = Marker.parse(key) or Later.parse(key)
        assert hint is not None
        job = known.get(hint.job.id)
        if job is None:
            continue  # of a submit that died: it goes after an hour
        if (
            isinstance(hint, Later)
            and hint.seq < len(job.log)
            and hint.minute > minute(world.hub.now - soon_s)
        ):
            continue  # overtaken: it goes when its minute comes, by the clock of who sweeps
        wrong.append(f"left: {key}")
    return wrong


def _stops(world: World) -> list[str]:
    """Jobs that were claimed although a user had been told that they go no further, and nobody had resumed them."""
    wrong = []
    for stopped in world.wishes.stopped:
        job = world.watch.followed(stopped.job)
        # Who may write no logs cannot know of a claim on its way; that one ends at its worker's first look.
        allowed = int(world.plan.bound)
        for entry, order in zip(job.log, job.orders):
            if order > stopped.asked and entry["kind"] == "queued":
                break
            if order > stopped.told and entry["kind"] == "claimed" and (allowed := allowed - 1) < 0:
                wrong.append(f"{job.name}: claimed at {entry['seq']} although a user had stopped it")
    return wrong
