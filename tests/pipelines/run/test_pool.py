"""The pool on a real Ray: workers die, hang, are slow, and refuse to start."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ifmdm_core.errors import BadInput, DiskFull, Expired, NotFound, Unavailable
from pipelines.run.pool import Job, Pool


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    from pipelines.run.cluster import connect

    with connect(cpus=4):
        yield


def make_worker(folder: Path, model: bool = True) -> Any:
    """Starts a worker whose jobs say what happens: ("ok", value), ("die-once", name), ..."""
    import ray

    class Worker:
        def ready(self) -> str:
            if not model:
                raise NotFound("no model 'x'", fix="give one")
            return f"node-{os.getpid()}"

        def work(self, payload: tuple[str, str]) -> str:
            what, name = payload
            first = not (folder / name).exists()
            (folder / name).touch()
            if what == "die" or (what == "die-once" and first):
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "busy" or (what == "busy-once" and first):
                raise Unavailable("the store answered 503", retry_after=0.1)
            if what == "full":
                raise DiskFull("no room on /data", fix="free some")
            if what == "bug":
                raise ValueError("a bug")
            if what == "hang" or (what in ("hang-once", "slow-once") and first):
                time.sleep(60)
            return f"{name} by {os.getpid()}"

    return lambda: ray.remote(Worker).options(num_cpus=1).remote()


def job(what: str, name: str, deadline_s: float = 50.0) -> Job:
    return Job(name, "work", (what, name), 1.0, deadline_s)


def run(folder: Path, jobs: list[Job], size: int = 2, **options: Any) -> tuple[dict[str, Any], list[str]]:
    """Outcomes by job, and what was said about retries."""
    said: list[str] = []
    pool = Pool(
        make_worker(folder), size, on_retry=lambda name, cause: said.append(f"{name}: {cause}"), **options
    )
    with pool:
        outcomes = {outcome.job.name: outcome for outcome in pool.run(jobs)}
    return outcomes, said


@pytest.mark.usefixtures("cluster")
def test_every_job_has_one_outcome_and_faults_cost_only_their_own(tmp_path: Path) -> None:
    names = ["die-once", "busy-once", "hang-once", "bug", "die", *(f"good-{k}" for k in range(6))]
    jobs = [job(name if not name.startswith("good") else "ok", name, 4.0) for name in names]
    outcomes, said = run(tmp_path, jobs, attempts=3)
    assert sorted(outcomes) == sorted(names)
    wrong = {name for name, outcome in outcomes.items() if outcome.error is not None}
    assert wrong == {"bug", "die"}
    assert isinstance(outcomes["bug"].error, ValueError)
    assert "worker was lost" in str(outcomes["die"].error)
    assert outcomes["die"].attempts == 3
    assert {outcomes[name].attempts for name in ("die-once", "busy-once", "hang-once")} == {2}
    assert any("busy-once: the store answered 503" in line for line in said)
    assert any("hang-once: no result within 4 s" in line for line in said)


@pytest.mark.usefixtures("cluster")
def test_a_job_that_always_hangs_is_given_up_as_expired(tmp_path: Path) -> None:
    outcomes, _ = run(tmp_path, [job("hang", "a", 1.0), job("ok", "b")], attempts=2)
    assert isinstance(outcomes["a"].error, Expired)
    assert outcomes["b"].error is None


@pytest.mark.usefixtures("cluster")
def test_the_slow_last_one_runs_again_elsewhere_and_the_first_result_counts(tmp_path: Path) -> None:
    jobs = [*(job("ok", f"{k}") for k in range(5)), job("slow-once", "late")]
    begun = time.monotonic()
    outcomes, _ = run(tmp_path, jobs)
    assert outcomes["late"].error is None
    assert time.monotonic() - begun < 50  # it sleeps for 60 s where it was first


@pytest.mark.usefixtures("cluster")
def test_a_full_disk_stops_the_run_at_once(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="no room on /data"):
        run(tmp_path, [job("full", "a"), *(job("ok", f"{k}") for k in range(3))])


@pytest.mark.usefixtures("cluster")
def test_workers_that_cannot_load_their_model_say_why(tmp_path: Path) -> None:
    pool = Pool(make_worker(tmp_path, model=False), 1)
    with pool, pytest.raises(NotFound, match="no model 'x'"):
        list(pool.run([job("ok", "a")]))


@pytest.mark.usefixtures("cluster")
def test_more_workers_than_the_cluster_has_room_for_do_no_harm(tmp_path: Path) -> None:
    outcomes, _ = run(tmp_path, [job("ok", f"{k}") for k in range(8)], size=9)
    assert all(outcome.error is None for outcome in outcomes.values())


def test_bad_input_is_never_tried_again() -> None:
    pool = Pool(lambda: None, 0)
    assert not pool._may_retry(BadInput("x"), 1)
    assert pool._may_retry(Unavailable("x"), 1)
    assert not pool._may_retry(Unavailable("x"), 4)
