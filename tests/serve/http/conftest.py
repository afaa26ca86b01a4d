"""Gateways without Ray, shared by the tests of the HTTP API."""

from __future__ import annotations

import socket
import wave
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.serve.gateways import Gateways, RunningGateway


@pytest.fixture(scope="session")
def gateways(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Iterator[Gateways]:
    """Makes gateways over the tiny bundle."""
    made = Gateways(tmp_path_factory.mktemp("gateways"), tiny_bundle)
    yield made
    made.close()


@pytest.fixture(scope="session")
def gateway(gateways: Gateways) -> RunningGateway:
    """One that lets this machine in without a token."""
    return gateways.start("gateway.limits.streams=4")


@pytest.fixture
def http(gateway: RunningGateway) -> Iterator[httpx.Client]:
    """Speaks to it."""
    with httpx.Client(base_url=gateway.url, timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of noise with the loudness of syllables, 16 kHz."""
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    write_speech(path, 2.0)
    return path


def write_speech(path: Path, seconds: float) -> None:
    """Such noise as a WAV file."""
    count = int(16_000 * seconds)
    time = np.arange(count) / 16_000
    noise = np.random.default_rng(0).normal(0, 0.1, count) * (0.5 + 0.5 * np.sin(8 * np.pi * time))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((np.clip(noise, -1, 1) * 32767).astype("<i2").tobytes())


def raw(gateway: RunningGateway, request: httpx.Request, body: bool = True) -> socket.socket:
    """A connection on which a request has been sent, as it is or without its body."""
    connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=60)
    lines = [f"{request.method} {request.url.raw_path.decode()} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    if body:
        connection.sendall(request.read())
    return connection
