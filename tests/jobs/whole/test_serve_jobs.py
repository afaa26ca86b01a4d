"""`ifmdm serve --jobs`: the gateway takes jobs, workers on the same Ray cluster render them with its stages."""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import httpx
import psutil
import pytest

from ifmdm_core.storage import S3Config, Storage, open_storage
from jobs.client import JobClient
from tests.benchmarks.serve_clients import SAMPLES
from tests.jobs.rendering.places import recording
from tests.jobs.whole.commands import ifmdm
from tests.service_process import ServiceProcess

TENANT = "default"
"""Of callers without a token."""


@dataclass(frozen=True)
class Whole:
    """What runs."""

    service: ServiceProcess
    client: JobClient
    base: Storage
    """Where inputs and outputs lie."""

    def fields(self, name: str, audio: str = "short.wav") -> dict[str, object]:
        """A job."""
        return {
            "portrait": self.uri("ann.jpg"), "audio": self.uri(audio), "output": self.uri(f"out/{name}.mp4"),
            "model": "tiny", "controls": {"steps": 2},
        }  # fmt: skip

    def uri(self, key: str) -> str:
        return str(self.base.root.join(key))


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path, s3_config: S3Config
) -> Iterator[Whole]:
    base = open_storage(f"s3://renders/{uuid.uuid4().hex}", s3_config)
    base.put("ann.jpg", (SAMPLES / "astronaut.jpg").read_bytes())
    base.put("short.wav", recording(1.0))
    base.put("long.wav", recording(300.0))
    root = str(base.root.join("jobs"))
    allowed = (
        "--allow-input",
        str(base.root),
        "--allow-output",
        str(base.root),
        "--model",
        f"tiny={tiny_bundle}",
    )
    ifmdm("jobs", "init", root, "--tenant", TENANT, *allowed, "--endpoint", str(s3_config.endpoint))
    folder = tmp_path_factory.mktemp("serve-jobs")
    service = ServiceProcess(
        folder, f"model={tiny_bundle}", "gateway.studio=false",
        env={"IFMDM_CACHE": str(folder / "cache"), "AWS_ENDPOINT_URL": str(s3_config.endpoint)},
        options=("--jobs", root, "--workers", "2", "--slots", "1"),
    )  # fmt: skip
    with service:
        yield Whole(service, JobClient(root, TENANT, s3_config), base)


def test_jobs_handed_in_from_python_and_over_http_are_rendered_by_the_services_stages(whole: Whole) -> None:
    for name in ("a", "b", "c"):
        whole.client.submit(**whole.fields(name))
    answer = httpx.post(f"{whole.service.url}/v1/jobs", json=whole.fields("d"), timeout=60)
    assert answer.status_code == 201, answer.text
    ids = [job["id"] for job in httpx.get(f"{whole.service.url}/v1/jobs", timeout=60).json()]
    assert answer.json()["id"] in ids
    assert len(ids) == 4
    for id in ids:
        view = whole.client.wait(id, 240)
        assert view.state.state == "published", view.state.fault
        metrics = whole.client.store.storage.get(f"attempts/{TENANT}/{id}/1/metrics.json")
        assert json.loads(metrics)["stages"]["decoder"]["calls"] > 0
    for name in ("a", "b", "c", "d"):
        with av.open(io.BytesIO(whole.base.get(f"out/{name}.mp4"))) as video:
            assert sum(1 for _ in video.decode(video=0)) == 25


def test_the_jobs_page_is_there(whole: Whole) -> None:
    answer = httpx.get(f"{whole.service.url}/jobs", timeout=60, follow_redirects=True)
    assert answer.status_code == 200
    assert "<html" in answer.text


def test_a_worker_whose_process_dies_is_started_again_under_another_name(whole: Whole) -> None:
    before = {item.key for item in whole.client.store.storage.list("workers/")}
    victim = next(p for p in _members(whole.service) if "ray::JobWorker" in " ".join(p.cmdline()))
    victim.kill()
    end = time.monotonic() + 120
    while not {item.key for item in whole.client.store.storage.list("workers/")} - before:
        assert time.monotonic() < end, whole.service.last_words()
        time.sleep(0.5)
    id = whole.client.submit(**whole.fields("after")).ref.id
    assert whole.client.wait(id, 240).state.state == "published"


def test_a_service_that_is_stopped_gives_its_jobs_back_and_leaves_nothing_running(whole: Whole) -> None:
    """The last one here: it ends what the others use."""
    ref = whole.client.submit(**whole.fields("long", "long.wav")).ref
    end = time.monotonic() + 120
    while whole.client.get(ref.id).state.state != "running":
        assert time.monotonic() < end
        time.sleep(0.2)
    assert whole.service.stop() == 0, whole.service.last_words()
    assert whole.service.left_over == []
    state = whole.client.get(ref.id).state
    assert (state.state, state.attempts, state.losses) == ("queued", 0, 0), whole.service.last_words()


def _members(service: ServiceProcess) -> list[psutil.Process]:
    assert service._process is not None
    return psutil.Process(service._process.pid).children(recursive=True)
