import time
from pathlib import Path

import pytest

from ifmdm_core.storage import open_storage
from serve import scaling
from serve.config import Scaling
from serve.scaling import BACKLOG, BacklogSnapshot, write_backlog
from tests.serve.conftest import Service
from tests.serve.replicas import until


def test_a_backlog_counts_while_it_is_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(tmp_path)
    snapshot = BacklogSnapshot(storage)
    assert snapshot.waiting() == 0
    write_backlog(storage, 7, at=1.0)
    snapshot.look()
    assert snapshot.waiting() == 7
    storage.put(BACKLOG, b"{broken")  # whoever writes it is another version
    snapshot.look()
    assert snapshot.waiting() == 7
    monkeypatch.setattr(scaling, "STALE_S", 0.0)
    time.sleep(0.01)
    assert snapshot.waiting() == 0


class Nothing:
    """A deployment nobody calls."""


def test_waiting_jobs_bring_replicas_without_a_single_call(service: Service, tmp_path: Path) -> None:
    from ray import serve

    from serve.application import autoscaling

    config = Scaling(
        least=1, most=3, backlog=10, upscale_delay_s=0, downscale_delay_s=0, look_back_s=1, interval_s=0.5
    )
    deployment = serve.deployment(Nothing, name="idle").options(
        ray_actor_options={"num_cpus": 0.01}, autoscaling_config=autoscaling(config, str(tmp_path))
    )
    serve.run(deployment.bind(), name="backlogged", route_prefix=None)

    def replicas() -> int:
        idle = serve.status().applications["backlogged"].deployments["idle"]
        return idle.replica_states.get("RUNNING", 0)

    try:
        assert replicas() == 1
        write_backlog(open_storage(tmp_path), 25, at=1.0)
        until(lambda: replicas() == 3, "three replicas for 25 waiting jobs")
        write_backlog(open_storage(tmp_path), 0, at=2.0)
        until(lambda: replicas() == 1, "one replica once nothing waits")
    finally:
        serve.delete("backlogged")
