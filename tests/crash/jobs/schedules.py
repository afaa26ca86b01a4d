"""Seeded schedules over the real worker, sweeper, scheduler, publisher, submit, steering, gc and fsck.

python -m tests.crash.jobs.schedules --seeds 0:2000 --log docs/chaos-jobs.log
python -m tests.crash.jobs.schedules --seeds 17:18 --trace 300        # one again, with its last events
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Iterator
from unittest import mock

from jobs import worker
from jobs.spec import RenderJob
from tests.crash.jobs.faults import Odds
from tests.crash.jobs.hub import START
from tests.crash.jobs.renderer import How, Script
from tests.crash.jobs.verdict import judge, judge_forgotten
from tests.crash.jobs.world import Plan, World, policy
from tests.crash.reporting import arguments_of, report

LONGEST_S = 4 * 3600.0
"""Simulated seconds after the chaos by which all must be quiet: several backoffs of ten minutes fit in."""
PAUSES = {"FULL_S": 1.0, "IDLE_MOST_S": 10.0}
"""Longer pauses of workers that wait for a free slot or for jobs: their looks would be most of all events."""
BLOCK = 50
"""Schedules told in one line."""
KINDS = {"calm": 1, "answers": 2, "kills": 2, "pauses": 1, "all": 6}
FOCI = (
    "", "", "films:", "films:", "films:", "/log/", "/log/", "running/", "queue/", "later/", "outputs/", "spec.json",
    "wishes/", "attempts/", "kept/", "final.json", "ended/", "workers/",
)  # fmt: skip
"""See `Odds.focus`."""
FATES: tuple[How, ...] = ("ok", "transient", "missing", "bad", "bug", "hang", "crawl")


class Wrong(AssertionError):
    """A schedule that did not end as it must."""


def draw(seed: int, kind: str | None = None) -> Plan:
    """The schedule of a seed."""
    chance = random.Random(f"{seed} plan")
    kind = kind or chance.choices(list(KINDS), list(KINDS.values()))[0]
    tenants = ["a", "b"][: chance.randint(1, 2)]
    chaos_s = chance.uniform(120.0, 500.0)
    shared = chance.choice((0.0, 0.2, 1.0))
    jobs = [_job(chance, number, tenants, shared) for number in range(chance.randint(2, 7))]
    odds = _odds(chance, kind)
    losses = tuple(chance.uniform(0.0, chaos_s) for _ in range(chance.choice((0, 0, 0, 0, 1, 3))))
    return Plan(
        seed=seed,
        kind=kind,
        odds=odds,
        workers=tuple(chance.randint(1, 2) for _ in range(chance.randint(2, 3))),
        users=chance.randint(1, 2),
        jobs=tuple(jobs),
        policies={tenant: policy(tenant, chance.choice((1, 2, 1000)), chance.choice((0.5, 2.0))) for tenant in tenants},
        chaos_s=chaos_s,
        stall_s=chance.uniform(100.0, 200.0),
        skew_s=chance.choice((0.0, 60.0, 600.0)),
        whim_s=2.0 if odds.focus == "films:" else chance.choice((5.0, 20.0, 60.0, None)),
        movers=odds.focus == "films:",
        bound=chance.random() < 0.2,
        rogue=kind == "all" and chance.random() < 0.1,
        leave_s=chance.choice((None, None, 60.0)),
        keep_s=chance.choice((None, None, 0.0, 30.0, 200.0)),
        operator=bool(losses) or chance.random() < 0.6,
        mends=bool(losses) or chance.random() < 0.2,
        losses=losses,
        page=chance.choice((1000, 1000, 2)),
        picky=chance.random() < 0.2,
    )  # fmt: skip


def _job(
    chance: random.Random, number: int, tenants: list[str], shared: float
) -> tuple[str, RenderJob, Script]:
    tenant = chance.choice(tenants)
    values: dict[str, object] = {
        "portrait": f"s3://media/face-{chance.randint(0, 2)}.png", "audio": f"s3://media/speech-{number}.wav",
        "output": f"s3://films/{tenant}/{number}.mp4", "model": chance.choice(("one", "one", "two")),
        "if_exists": chance.choice(("fail", "overwrite")), "priority": chance.choice((0, 0, 5)),
        "max_attempts": chance.choice((1, 2, 3)),
    }  # fmt: skip
    if number and chance.random() < shared:  # two jobs, one output
        values["output"] = f"s3://films/{tenant}/{chance.randrange(number)}.mp4"
    if chance.random() < 0.15:
        values["not_before"] = START + chance.uniform(0.0, 300.0)
    if chance.random() < 0.15:
        values["deadline"] = START + chance.uniform(301.0, 800.0)
    if chance.random() < 0.3:
        values["callback"] = "https://hook.example/told"
    fates: tuple[How, ...] = ()
    if chance.random() < 0.4:
        fates = tuple(chance.choices(FATES, (4, 3, 1, 1, 1, 1, 1))[0] for _ in range(chance.randint(1, 3)))
    frames = chance.choice((chance.randint(2, 15), chance.randint(2, 15), 100))
    script = Script(frames, chance.choice((0.5, 2.0, 4.0)), fates)
    return tenant, RenderJob.model_validate(values), script


def _odds(chance: random.Random, kind: str) -> Odds:
    if kind == "calm":
        return Odds()
    some, focus = chance.choice((0.01, 0.03, 0.1)), chance.choice(FOCI)
    if kind == "answers":
        return Odds(focus, before=some / 2, after=some / 2, denied=some)
    if kind == "kills":
        return Odds(focus, kill=some / 2)
    if kind == "pauses":
        return Odds(focus, pause=some / 2, slow=some / 2)
    return Odds(
        focus,
        before=some * chance.random(), after=some * chance.random(), late=some * chance.random(),
        denied=some * chance.random(), slow=some / 2 * chance.random(), kill=some / 2 * chance.random(),
        pause=some / 3 * chance.random(), outage=some / 5 * chance.random(),
    )  # fmt: skip


def execute(plan: Plan, trace: int = 120) -> dict[str, int]:
    """Runs a schedule; counts of what happened. Raises Wrong with the last events."""
    with mock.patch.multiple(worker, **PAUSES):
        world = World(plan)
        world.run(LONGEST_S)
    wrong = judge(world)
    if not wrong:
        world.forget()
        wrong = judge_forgotten(world)
    if wrong:
        raise Wrong(_explained(world, wrong, trace))
    return {
        "jobs": len(world.wishes.submitted), "requests": world.faults.requests,
        **{kind: world.watch.kinds[kind] for kind in ("claimed", "published", "lost", "released", "closed")},
        "late_places": world.watch.late_places, **world.faults.counts,
    }  # fmt: skip


def _explained(world: World, wrong: list[str], trace: int) -> str:
    """What is wrong, and how to see it again."""
    seed = world.plan.seed
    ids = {job.name.partition("/")[2]: job for job in world.watch.jobs.values()}
    named = [id for id in ids if id in wrong[0]]
    events = [event for event in world.faults.trace if "workers/" not in event.key]
    if named:
        told = [named[0], ids[named[0]].output or "-", "---"]
        events = [event for event in events if any(part in event.key for part in told)]
    lines = [str(event) for event in events[-trace:]]
    again = f"python -m tests.crash.jobs.schedules --seeds {seed}:{seed + 1} --trace 1000"
    return "\n".join([f"seed {seed} ({world.plan.kind}): {wrong[0]}", *wrong[1:8], *lines, f"again: {again}"])


def run_all(seeds: range, trace: int = 120, block: int = BLOCK) -> Iterator[dict[str, object]]:
    """Runs the schedules; what happened in each block of them."""
    for first in range(seeds.start, seeds.stop, block):
        begun, counts, kinds = time.monotonic(), Counter[str](), Counter[str]()
        part = range(first, min(first + block, seeds.stop))
        for seed in part:
            plan = draw(seed)
            kinds[plan.kind] += 1
            counts.update(execute(plan, trace))
        yield {
            "seeds": f"{part.start}:{part.stop}", **dict(sorted(kinds.items())),
            **{name.replace(" ", "_"): count for name, count in counts.items()},
            "seconds": round(time.monotonic() - begun, 1),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Render jobs under seeded faults, in simulated time.")
    parser.add_argument("--trace", type=int, default=120, help="events told of a schedule that failed")
    arguments, seeds = arguments_of(parser, "0:2000")
    report(seeds, run_all(seeds, arguments.trace), "every verdict as it must be", arguments.log)


if __name__ == "__main__":
    main()
