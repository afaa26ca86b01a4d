"""What a stage's replica logs for a request carries that request's id, as JSON."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from ifmdm_core.bundle import load_bundle
from ifmdm_core.errors import NotFound
from serve.logs import request
from serve.messages import IdentityRef
from tests.serve.conftest import Service


def lines_of(identifier: str) -> list[dict[str, Any]]:
    """Lines of this Ray's Serve logs with that request id, once there are some."""
    import ray

    folder = Path(ray._private.worker.global_worker.node.get_session_dir_path()) / "logs" / "serve"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        text = "\n".join(path.read_text(errors="replace") for path in folder.glob("replica_*decoder*.log"))
        found = [json.loads(line) for line in text.splitlines() if identifier in line]
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"no line of {identifier} in {sorted(path.name for path in folder.iterdir())}")


def test_a_replicas_lines_carry_the_id_of_the_request_they_belong_to(service: Service) -> None:
    from serve.application import name_of
    from serve.calls import Calls

    calls = Calls(name_of(load_bundle(service.config.model).digest))
    nobody = IdentityRef("nobody", "0" * 64)
    with request("trace-me-7"), pytest.raises(NotFound):
        asyncio.run(calls.call("decoder", "identify", nobody, session=nobody.digest))
    found = lines_of("trace-me-7")
    assert {line["request_id"] for line in found} == {"trace-me-7"}
    assert all(line["deployment"].endswith("decoder") for line in found), found
    assert any("NotFound" in line.get("exc_text", "") + line["message"] for line in found)
