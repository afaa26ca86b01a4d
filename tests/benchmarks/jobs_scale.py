"""What a job costs when rendering costs nothing: the real submit, scheduler, worker, attempt and publishing.

    python -m tests.benchmarks.jobs_scale --jobs 5000 --s3 --out docs/bench-jobs-scale-s3.json
    python -m tests.benchmarks.jobs_scale --jobs 100000 --folder bench --out docs/bench-jobs-scale-folder.json

`--s3` speaks HTTP to an S3 test server in a process of its own, whose speed limits the rates; `--folder` makes a new
folder below the one given, and removes it. Submitter and workers are processes of their own. A worker's renderer gives
the same few bytes at once, and each worker takes one job at a time, so that claiming and finishing can be told apart.
Requests are counted at the storage's calls.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import resource
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ifmdm_core.storage import S3Config, open_storage
from jobs.client import JobClient
from jobs.fsck import repair
from jobs.init import DEFAULT_TENANT, first_policy, let_in, make_store
from jobs.running.process import WorkerProcess
from jobs.store import JobStore
from jobs.worker import Worker
from tests.benchmarks.counted_storage import CountedPlaces, CountedStorage, Requests, cost
from tests.benchmarks.s3_process import S3Process
from tests.benchmarks.serve_load import circumstances
from tests.jobs.instant import InstantRenderer

MILLION_A_DAY = 1_000_000 / 86_400
"""Jobs a second."""
PUTS_A_SECOND = 3_500
"""That S3 takes below one prefix."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=5000)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--s3", action="store_true")
    where.add_argument("--folder", type=Path)
    parser.add_argument("--workers", type=int, default=1, help="processes that render at the same time")
    parser.add_argument("--idle", type=float, default=120.0, help="seconds that an idle worker is watched")
    parser.add_argument("--rest", type=float, default=300.0, help="seconds that it is idle before")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {**circumstances(), "jobs": options.jobs, "workers": options.workers}
    found["store"] = "S3 over HTTP (moto)" if options.s3 else "folder"
    with contextlib.ExitStack() as held:
        if options.s3:
            s3 = held.enter_context(S3Process()).config
            base = f"s3://renders/{uuid.uuid4().hex[:8]}"
        else:
            options.folder.mkdir(parents=True, exist_ok=True)
            base, s3 = held.enter_context(tempfile.TemporaryDirectory(dir=options.folder)), None
        _set_up(base, s3, options.jobs)
        found["submit"] = _apart(submit, base, s3, options.jobs)
        _tell("submit", found["submit"])
        began = time.monotonic()
        parts = _all_apart(options.workers, work, base, s3)
        found["work"] = _together(parts, options.jobs, time.monotonic() - began)
        _tell("work", found["work"])
        found["look_at_everything"] = _apart(look, base, s3)
        _tell("look at everything", found["look_at_everything"])
        found["idle"] = _apart(idle, base, s3, options.idle, options.rest)
        _tell("idle", found["idle"])
    found |= _derived(found)
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


def _set_up(base: str, s3: S3Config | None, jobs: int) -> None:
    storage = open_storage(base, s3)
    storage.put("in/ann.png", b"\x89PNG\r\n\x1a\n, or so")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: storage.put(f"in/{number}.wav", b"speech of somebody"), range(jobs)))
    store = JobStore(open_storage(f"{base}/jobs", s3), "bench")
    make_store(store)
    policy = first_policy(store.storage.root, "bench", Path("/nowhere"))
    let_in(store, DEFAULT_TENANT, policy.model_copy(update={"inputs": (base,), "outputs": (base,)}))


def submit(base: str, s3: S3Config | None, jobs: int) -> dict[str, Any]:
    """Hands in so many jobs, each with a sound and an output of its own, by as many threads as the client likes."""
    requests, before_mb = Requests(), _peak_mb()
    client = JobClient(f"{base}/jobs", s3=s3)
    client.store.storage = CountedStorage(client.store.storage, requests)
    client.places = CountedPlaces(requests, s3)
    given = (
        {"portrait": f"{base}/in/ann.png", "audio": f"{base}/in/{n}.wav", "output": f"{base}/out/{n % 997}/{n}.mp4"}
        for n in range(jobs)
    )  # fmt: skip
    began, cpu = time.monotonic(), time.process_time()
    for number, result in client.submit_many(given):
        if isinstance(result, Exception):
            raise SystemExit(f"job {number}: {result}")
    seconds = time.monotonic() - began
    return {
        "seconds": round(seconds, 2), "per_s": round(jobs / seconds, 1), "threads": client.workers,
        "cpu_ms_per_job": round(1000 * (time.process_time() - cpu) / jobs, 2),
        "requests_per_job": _per(requests.kinds, jobs), "folders_per_job": _per(requests.folders, jobs),
        "memory_mb": {"before": before_mb, "peak": _peak_mb()},
    }  # fmt: skip


def work(base: str, s3: S3Config | None) -> dict[str, Any]:
    """Renders what is queued until nothing is, one job after the other, with heartbeats and sweeps beside it."""
    requests, before_mb = Requests(), _peak_mb()
    store = JobStore(
        CountedStorage(open_storage(f"{base}/jobs", s3), requests), f"bench.{uuid.uuid4().hex[:8]}"
    )
    seconds: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = {"claim": Counter(), "finish": Counter()}
    threads: list[threading.Thread] = []

    def run(job: Callable[[], None]) -> None:
        mark("claim")
        job()
        mark("finish")

    def mark(what: str) -> None:
        nonlocal at, seen
        now, there = time.monotonic(), Counter(requests.kinds)
        seconds[what] += now - at
        kinds[what] += there - seen
        at, seen = now, there

    worker = Worker(store, CountedPlaces(requests, s3), InstantRenderer(), spawn=run, host="bench")
    misses = 0
    begin_one = worker._begin_one

    def watched() -> bool:
        """A worker that has found nothing twice has nothing to do any more."""
        nonlocal misses
        found = begin_one()
        misses = 0 if found else misses + 1
        worker.leaving = worker.leaving or misses > 2
        return found

    worker._begin_one = watched  # type: ignore[method-assign]
    over = threading.Event()
    for loop in (worker.beat_on, worker.sweep_on):
        threads.append(threading.Thread(target=loop, args=(over.is_set,), daemon=True))
        threads[-1].start()
    at, seen, cpu = time.monotonic(), Counter(requests.kinds), time.process_time()
    worker.work()
    over.set()
    return {
        "finished": worker.finished, "seconds": dict(seconds), "all": dict(requests.kinds),
        "kinds": {name: dict(found) for name, found in kinds.items()}, "folders": dict(requests.folders),
        "cpu_s": time.process_time() - cpu,
        "memory_mb": {"before": before_mb, "peak": _peak_mb()},
    }  # fmt: skip


def look(base: str, s3: S3Config | None) -> dict[str, Any]:
    """What workers do every hour: a look at every job, none of which needs anything."""
    requests, before_mb = Requests(), _peak_mb()
    store = JobStore(CountedStorage(open_storage(f"{base}/jobs", s3), requests), "bench")
    began = time.monotonic()
    report = repair(store, CountedPlaces(requests, s3))
    seconds = time.monotonic() - began
    return {
        "seconds": round(seconds, 2), "jobs_per_s": round(report.jobs / seconds, 1), "findings": len(report.findings),
        "requests": dict(requests.kinds), "memory_mb": {"before": before_mb, "peak": _peak_mb()},
    }  # fmt: skip


def idle(base: str, s3: S3Config | None, seconds: float, rest_s: float) -> dict[str, Any]:
    """What a worker asks that finds nothing to do, with all its threads: in the beginning, and after a rest."""
    requests = Requests()
    storage = CountedStorage(open_storage(f"{base}/jobs", s3), requests)
    process = WorkerProcess(storage, CountedPlaces(requests, s3), InstantRenderer(), name="idle.1")
    thread = threading.Thread(target=process.run)
    thread.start()
    found = {}
    for name, pause_s in (("at_first", 0.0), ("later", rest_s)):
        time.sleep(pause_s)
        before = Counter(requests.kinds)
        time.sleep(seconds)
        per_s = {kind: count / seconds for kind, count in (requests.kinds - before).items()}
        found[name] = {
            "requests_per_s": {kind: round(rate, 3) for kind, rate in per_s.items()},
            "dollars_per_day": round(86_400 * cost(per_s), 3),
        }
    process.leave()
    thread.join()
    return {"seconds": seconds, "rest_s": rest_s, **found}


def _together(parts: list[dict[str, Any]], jobs: int, wall_s: float) -> dict[str, Any]:
    finished = sum(part["finished"] for part in parts)
    if finished != jobs:
        raise SystemExit(f"{finished} attempts for {jobs} jobs")
    seconds: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = {"claim": Counter(), "finish": Counter()}
    everything: Counter[str] = Counter()
    folders: Counter[str] = Counter()
    for part in parts:
        seconds.update(part["seconds"])
        everything.update(part["all"])
        folders.update(part["folders"])
        for name, found in part["kinds"].items():
            kinds[name].update(found)
    return {
        "wall_s": round(wall_s, 2), "per_s": round(jobs / wall_s, 1),
        "claim_per_s": round(jobs / seconds["claim"], 1), "finish_per_s": round(jobs / seconds["finish"], 1),
        "cpu_ms_per_job": round(1000 * sum(part["cpu_s"] for part in parts) / jobs, 2),
        "requests_per_job": {
            **{name: _per(found, jobs) for name, found in kinds.items()}, "all": _per(everything, jobs)
        },
        "folders_per_job": _per(folders, jobs), "memory_mb": [part["memory_mb"] for part in parts],
    }  # fmt: skip


def _derived(found: dict[str, Any]) -> dict[str, Any]:
    per_job: Counter[str] = Counter()
    per_folder: Counter[str] = Counter()
    for part in (found["submit"]["requests_per_job"], found["work"]["requests_per_job"]["all"]):
        per_job.update(part)
    for part in (found["submit"]["folders_per_job"], found["work"]["folders_per_job"]):
        per_folder.update(part)
    folder, most = per_folder.most_common(1)[0]
    return {
        "requests_per_job": {kind: round(count, 2) for kind, count in per_job.items()},
        "a_million_jobs_a_day": {
            "dollars": round(1e6 * cost(dict(per_job)), 2),
            "requests_per_s": {kind: round(MILLION_A_DAY * count, 1) for kind, count in per_job.items()},
            "busiest_prefix": folder,
            "busiest_prefix_puts_and_lists_per_s": round(MILLION_A_DAY * most, 1),
            "head_room": round(PUTS_A_SECOND / (MILLION_A_DAY * most), 1),
        },
    }


def _per(counts: Counter[str], jobs: int) -> dict[str, float]:
    return {name: round(count / jobs, 3) for name, count in counts.most_common() if count / jobs >= 0.0005}


def _peak_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _apart(part: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    return _all_apart(1, part, *arguments)[0]


def _all_apart(count: int, part: Callable[..., dict[str, Any]], *arguments: Any) -> list[dict[str, Any]]:
    """The same in so many new processes at once."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(count) as pool:
        return [answer.get() for answer in [pool.apply_async(part, arguments) for _ in range(count)]]


def _tell(what: str, found: dict[str, Any]) -> None:
    print(what, json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
