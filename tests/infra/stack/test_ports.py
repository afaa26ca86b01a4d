"""Free ports, and what is said where one is not."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from ifmdm_core.errors import Unavailable
from infra.stack import ports


@pytest.fixture
def listener() -> Iterator[int]:
    """A port of this machine's loopback on which somebody listens."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as the gateway does
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


def test_a_wanted_port_is_taken_where_it_is_free(listener: int) -> None:
    with socket.socket() as probe:
        probe.bind(("", 0))
        free = probe.getsockname()[1]
    found = ports.choose({"a": free, "b": listener, "c": None, "d": free})
    assert found["a"] == free
    assert listener not in found.values()
    assert len(set(found.values())) == 4
    assert all(map(ports.is_free, found.values()))


def test_who_has_a_port_is_said(listener: int) -> None:
    assert not ports.is_free(listener)
    with pytest.raises(
        Unavailable, match=rf"gateway\.port is {listener}.*process {os.getpid()}.*another port"
    ):
        ports.require(listener, "gateway.port")


def test_whether_something_answers(listener: int) -> None:
    assert ports.answers(f"127.0.0.1:{listener}")
    (free,) = ports.choose({"a": None}).values()
    assert not ports.answers(f"127.0.0.1:{free}")
