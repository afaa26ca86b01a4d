"""Render jobs of a manifest on S3, done by workers and stages on all hosts."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import av

from jobs.client import JobClient
from jobs.entries import Kind
from jobs.listing import Which, find
from tests.benchmarks.serve_clients import SAMPLES
from tests.cluster.hosts.place import Place
from tests.cluster.hosts.steps import Cut, Step, run
from tests.jobs.rendering.places import recording

JOBS = 8
SPEECH_S = 30.0
"""Of each: with tiny networks a few seconds of work."""
FPS = 25
VERDICTS: frozenset[Kind] = frozenset(
    ("done", "failed", "released", "lost", "cancelled", "suspended", "expired")
)


class Jobs:
    """Job stores, each with the same jobs.

    Args:
        bundle: what they are rendered with; the hosts fetch it from S3.
    """

    def __init__(self, place: Place, bundle: Path) -> None:
        self._place, self._bundle = place, "s3://renders/bundle"
        store = place.storage("bundle")
        for path in (path for path in sorted(bundle.rglob("*")) if path.is_file()):
            store.upload(str(path.relative_to(bundle)), path)
        inputs = place.storage("inputs")
        inputs.upload("ann.jpg", SAMPLES / "astronaut.jpg")
        for number in range(JOBS):
            inputs.put(f"{number}.wav", recording(SPEECH_S, number))

    def render(self, name: str, cut: Cut | None = None) -> dict[str, object]:
        """A manifest submitted and worked off; what was seen of the cut."""
        root = f"s3://renders/{name}/jobs"
        self._place.ifmdm("jobs", "init", root, "--model", f"tiny={self._bundle}")
        manifest = self._manifest(name)
        self._place.ifmdm("jobs", "submit", "--root", root, "--manifest", str(manifest), "--model", "tiny")
        settings = ["root=s3://renders/service", f"model={self._bundle}", "decoder.chunk=8",
                    *(f"{stage}.cpus=0.01" for stage in ("speech", "motion", "decoder")),
                    "decoder.scaling.least=2", "decoder.scaling.most=2"]  # fmt: skip
        work = (
            "jobs", "work", root, "--ray", self._place.ray.address, "--workers", "3", "--slots", "1", "--until-done",
            "--takeover", "10", *(word for setting in settings for word in ("--set", setting)),
        )  # fmt: skip
        step = Step(
            f"work-{name}", work, work, lambda: self._published(name), JOBS, r"^ray::(JobWorker|ServeReplica)"
        )
        seen = run(self._place, step, cut)
        return {**seen, **self._check(name)}

    def _manifest(self, name: str) -> Path:
        path = self._place.folder / f"{name}.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["portrait", "audio", "output", "controls.seed", "controls.steps", "controls.face"]
            )
            for number in range(JOBS):
                audio, output = f"s3://renders/inputs/{number}.wav", f"s3://renders/{name}/out/{number}.mp4"
                writer.writerow(["s3://renders/inputs/ann.jpg", audio, output, number, 2, "none"])
        return path

    def _published(self, name: str) -> int:
        return sum(1 for _ in self._place.storage(name).list("out/"))

    def _check(self, name: str) -> dict[str, object]:
        """Raises AssertionError for a job that did not end as it must; how often jobs were lost or failed."""
        client = JobClient(f"s3://renders/{name}/jobs", s3=self._place.s3)
        jobs = list(find(client.store, Which()))
        outputs = self._place.storage(name)
        lost = failed = 0
        assert len(jobs) == JOBS
        for job in jobs:
            ref = job.record.ref
            entries = client.store.log(ref)
            kinds = [entry.kind for entry in entries]
            assert (kinds.count("done"), kinds.count("published")) == (1, 1), f"{ref}: {kinds}"
            for place, kind in enumerate(kinds):
                if kind == "claimed":
                    assert kinds[place + 1] in VERDICTS, f"{ref}: {kinds}"
            assert sum(kind in VERDICTS for kind in kinds) == kinds.count("claimed"), f"{ref}: {kinds}"
            last = entries[-1].state
            assert last.state == "published", f"{ref}: {kinds}"
            assert last.video is not None, ref
            output = str(job.record.job.output)
            data = outputs.get(output.removeprefix(f"s3://renders/{name}/"))
            assert hashlib.sha256(data).hexdigest() == last.video.sha256, (
                f"{output}: other bytes than `done` says"
            )
            with av.open(io.BytesIO(data)) as container:
                assert sum(1 for _ in container.decode(video=0)) == last.video.frames == SPEECH_S * FPS, (
                    output
                )
            lost, failed = lost + kinds.count("lost"), failed + kinds.count("failed")
        assert self._published(name) == JOBS
        return {"lost": lost, "failed_attempts": failed}
