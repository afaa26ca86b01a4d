"""Starting Ray here, and what is said where there is none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap

import pytest

from ifmdm_core.errors import BadInput, Unavailable
from pipelines.run.cluster import connect


def test_a_local_cluster_runs_this_code_with_the_drivers_credentials_and_ends_quietly() -> None:
    code = """
        import os
        from pipelines.run.cluster import connect

        with connect(cpus=1) as cluster:
            import ray

            @ray.remote
            def look():
                from pipelines.clips.names import escape_name

                return escape_name(b"\\xff"), os.environ["AWS_ACCESS_KEY_ID"]

            print(cluster.local, cluster.nodes, cluster.cpus, *ray.get(look.remote()))
            with connect() as same:  # inside another block: that block's cluster
                print(same.address == cluster.address)
            print(ray.is_initialized())
        print(ray.is_initialized())
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=240, env={**os.environ, "AWS_ACCESS_KEY_ID": "from-the-driver"},
    )  # fmt: skip
    assert done.stdout.splitlines() == ["True 1 1.0 \\xff from-the-driver", "True", "True", "False"], (
        done.stderr
    )
    assert done.stderr == ""


def test_an_address_without_a_cluster_is_unavailable_at_once() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(Unavailable, match=address), connect(address):
        pass


@pytest.mark.parametrize(
    ("address", "cpus"), [("nonsense", None), ("host:port", None), (None, 0), ("127.0.0.1:1", 2)]
)
def test_settings_that_make_no_sense(address: str | None, cpus: int | None) -> None:
    with pytest.raises(BadInput), connect(address, cpus):
        pass


def test_a_machine_too_busy_to_start_ray_is_told_after_three_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    tries = []

    def late(*_: object, **__: object) -> None:
        tries.append(1)
        raise Exception("The current node timed out during startup. This could happen because ...")

    monkeypatch.setattr(ray, "init", late)
    with pytest.raises(Unavailable, match="too busy"), connect():
        pass
    assert len(tries) == 3
