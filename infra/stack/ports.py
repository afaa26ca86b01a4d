"""Free ports: those one would like where they are free, others where not."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping

import psutil

from ifmdm_core.errors import Unavailable


def is_free(port: int) -> bool:
    """Whether nobody listens there, on any address of this machine."""
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # what is only closing down does not count
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


def choose(wanted: Mapping[str, int | None]) -> dict[str, int]:
    """A port for each name, all different: the wanted one if it is free, else any that is.

    Raises Unavailable where the machine has none left.
    """
    with contextlib.ExitStack() as held:  # until all are chosen, so that none is chosen twice
        found: dict[str, int] = {}
        for name, port in wanted.items():
            if port is not None and port not in found.values() and is_free(port):
                found[name] = port
                continue
            probe = held.enter_context(contextlib.closing(socket.socket()))
            try:
                probe.bind(("", 0))
            except OSError as error:
                raise Unavailable(
                    f"no free TCP port for {name}: {error.strerror}",
                    fix="end programs that hold many connections",
                ) from None
            found[name] = probe.getsockname()[1]
        return found


def require(port: int, setting: str) -> None:
    """Raises Unavailable, saying who has it, where somebody listens on a port that was asked for."""
    if not is_free(port):
        raise Unavailable(
            f"{setting} is {port}, where {_holder(port)} listens", fix="end that, or choose another port"
        )


def answers(address: str, timeout_s: float = 2.0) -> bool:
    """Whether something accepts connections at host:port."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=timeout_s).close()
    except OSError:
        return False
    return True


def _holder(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    return "another program"
