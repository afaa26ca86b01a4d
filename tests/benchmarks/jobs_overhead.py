"""What a job costs in time beside its render: from the call of submit until it is published, minus the render.

    python -m tests.benchmarks.jobs_overhead --jobs 30 --gap 5 --out docs/bench-jobs-overhead.json

One `ifmdm jobs work --local` with the bundled model waits for jobs on an S3 test server in a process of its own. Each
job is handed in when the one before has been published for about --gap seconds: the worker has nothing to do by then.
The render's time is what the attempt itself says: inputs down, model, motion, frames, file, signature.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from ifmdm_core.media.audio import read_audio
from ifmdm_core.storage import open_storage
from jobs.client import JobClient
from tests.benchmarks.s3_process import S3Process
from tests.benchmarks.serve_clients import SAMPLES, speech_wav
from tests.benchmarks.serve_load import circumstances
from tests.jobs.whole.commands import WorkProcess, ifmdm

WARM = 3
"""Jobs that are not counted."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=30)
    parser.add_argument(
        "--gap", type=float, nargs="+", default=[5.0], help="seconds of rest; each is a series"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of speech")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {**circumstances(), "seconds_of_speech": options.seconds}
    with tempfile.TemporaryDirectory() as folder, S3Process() as server:
        base, endpoint = f"s3://renders/{uuid.uuid4().hex[:8]}", str(server.config.endpoint)
        storage = open_storage(base, server.config)
        storage.put("ann.jpg", (SAMPLES / "astronaut.jpg").read_bytes())
        storage.put("ann.wav", speech_wav(read_audio(SAMPLES / "speech.flac").samples, options.seconds))
        ifmdm("jobs", "init", f"{base}/jobs", "--endpoint", endpoint)
        work = ("--local", "--slots", "1", "--set", f"root={folder}/stages", "--endpoint", endpoint)
        with WorkProcess(f"{base}/jobs", Path(folder, "log"), *work) as worker:
            client = JobClient(f"{base}/jobs", s3=server.config)
            for _ in range(WARM):
                one(client, base, 0.1)
            series = {
                f"after {gap:g} s": summary([one(client, base, gap) for _ in range(options.jobs)])
                for gap in options.gap
            }
            assert worker.leave() == 0, worker.last_words()
    found["series"] = series
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


def one(client: JobClient, base: str, gap_s: float) -> dict[str, float]:
    """One job after a rest of about `gap_s`; seconds by phase."""
    time.sleep(gap_s * client.store.clock.chance.uniform(0.8, 1.2))
    began = time.time()
    job = {
        "portrait": f"{base}/ann.jpg",
        "audio": f"{base}/ann.wav",
        "output": f"{base}/{uuid.uuid4().hex}.mp4",
    }
    ref = client.submit(job).ref
    submitted = time.time()
    assert client.wait(ref.id, 300).state.state == "published"
    claimed, done, published = client.store.log(ref)
    metrics = json.loads(client.store.storage.get(f"{ref.attempt(1)}/metrics.json"))
    return {
        "overhead": published.at - began - metrics["seconds"], "submit": submitted - began,
        "wait": claimed.at - submitted, "render": metrics["seconds"],
        "around_render": done.at - claimed.at - metrics["seconds"], "publish": published.at - done.at,
    }  # fmt: skip


def summary(jobs: list[dict[str, float]]) -> dict[str, Any]:
    """Median and 95th percentile of each phase."""
    found: dict[str, Any] = {"jobs": len(jobs)}
    for phase in jobs[0]:
        values = sorted(job[phase] for job in jobs)
        cuts = statistics.quantiles(values, n=20, method="inclusive")
        found[phase] = {"p50": round(statistics.median(values), 3), "p95": round(cuts[-1], 3)}
        print(phase, found[phase], flush=True)
    return found


if __name__ == "__main__":
    main()
