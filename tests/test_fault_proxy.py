"""The proxy itself: each fault as a client meets it, and what became of its request behind."""

from __future__ import annotations

import http.client
import os
import random
from urllib.parse import urlsplit

import pytest

from ifmdm_core.storage import S3Config, s3_client
from tests.fault_proxy import Answer, Before, Cut, Delay, FaultProxy, Lose, Refuse, Strip

_SIGNED = (
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
)


class Client:
    """Plain HTTP through the proxy, without the tries that boto3 makes; and a look behind it."""

    def __init__(self, proxy: FaultProxy, direct: S3Config, folder: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(proxy.config.endpoint).netloc, timeout=30)
        self._direct, self._folder = s3_client(direct), folder

    def ask(self, method: str, key: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        names = {"Authorization": _SIGNED} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        try:
            self._connection.request(method, f"/renders/{self._folder}/{key}", body, names)
            reply = self._connection.getresponse()
            self.replied = reply.headers
            return reply.status, reply.read()
        except (ConnectionError, http.client.HTTPException):
            self._connection.close()
            raise

    def behind(self, key: str) -> bytes | None:
        found = self._direct.list_objects_v2(Bucket="renders", Prefix=f"{self._folder}/{key}")
        if not found["KeyCount"]:
            return None
        data: bytes = self._direct.get_object(Bucket="renders", Key=f"{self._folder}/{key}")["Body"].read()
        return data

    def delete_behind(self, key: str) -> None:
        self._direct.delete_object(Bucket="renders", Key=f"{self._folder}/{key}")


@pytest.fixture
def client(flaky_s3: FaultProxy, s3_config: S3Config, request: pytest.FixtureRequest) -> Client:
    return Client(flaky_s3, s3_config, f"proxy-{request.node.name}")


def test_without_rules_everything_passes_some_megabytes_too(client: Client, flaky_s3: FaultProxy) -> None:
    data = os.urandom(9_000_000)
    assert client.ask("PUT", "big", data)[0] == 200
    assert client.ask("GET", "big") == (200, data)
    assert client.ask("HEAD", "big") == (200, b"")
    assert client.ask("DELETE", "big")[0] == 204
    assert client.ask("GET", "big")[0] == 404
    assert [method for method, _ in flaky_s3.seen] == ["PUT", "GET", "HEAD", "DELETE", "GET"]


@pytest.mark.parametrize("size", [3, 9_000_000])
def test_a_refused_request_does_nothing(client: Client, flaky_s3: FaultProxy, size: int) -> None:
    flaky_s3.add(Refuse(), times=1)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        client.ask("PUT", "x", bytes(size))
    assert client.behind("x") is None
    assert client.ask("PUT", "x", b"again")[0] == 200


def test_a_lost_reply_is_of_a_request_that_was_carried_out(client: Client, flaky_s3: FaultProxy) -> None:
    flaky_s3.add(Lose(), times=1)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        client.ask("PUT", "x", b"written")
    assert client.behind("x") == b"written"


@pytest.mark.parametrize("status", [409, 500, 503])
def test_an_answered_request_does_nothing(client: Client, flaky_s3: FaultProxy, status: int) -> None:
    flaky_s3.add(Answer(status, "Whatever"), times=1)
    got, body = client.ask("PUT", "x", b"1")
    assert got == status
    assert b"<Code>Whatever</Code>" in body
    assert client.behind("x") is None


def test_a_delayed_request_is_carried_out_though_nobody_waits(client: Client, flaky_s3: FaultProxy) -> None:
    flaky_s3.add(Delay(0.2), times=1)
    assert client.ask("PUT", "x", b"late")[0] == 200
    assert client.behind("x") == b"late"


def test_conditions_are_stripped(client: Client, flaky_s3: FaultProxy) -> None:
    assert client.ask("PUT", "x", b"1", If_None_Match="*")[0] == 200
    assert client.ask("PUT", "x", b"2", If_None_Match="*")[0] == 412
    rule = flaky_s3.add(Strip(), methods=("PUT",))
    assert client.ask("PUT", "x", b"3", If_None_Match="*")[0] == 200
    assert client.behind("x") == b"3"
    assert rule.times is None
    flaky_s3.clear()
    assert client.ask("PUT", "x", b"4", If_None_Match="*")[0] == 412


def test_a_reply_is_cut(client: Client, flaky_s3: FaultProxy) -> None:
    client.ask("PUT", "x", bytes(1000))
    flaky_s3.add(Cut(300), times=1)
    with pytest.raises(http.client.IncompleteRead) as cut:
        client.ask("GET", "x")
    assert len(cut.value.partial) == 300


def test_something_else_happens_first(client: Client, flaky_s3: FaultProxy) -> None:
    flaky_s3.add(
        Before(lambda: client._direct.delete_object(Bucket="renders", Key=f"{client._folder}/x")), 1, ("GET",)
    )
    client.ask("PUT", "x", b"1")
    assert client.ask("GET", "x")[0] == 404


def test_rules_are_for_methods_and_paths_and_used_in_order(client: Client, flaky_s3: FaultProxy) -> None:
    first = flaky_s3.add(Answer(503), times=1, methods=("PUT",), path=r"/log/\d+")
    flaky_s3.add(Answer(409), times=1, path="/log/")
    assert client.ask("PUT", "other", b"")[0] == 200
    assert client.ask("GET", "other")[0] == 200
    assert [client.ask("PUT", "log/1", b"")[0] for _ in range(3)] == [503, 409, 200]
    assert first.times == 0


def test_chances_follow_the_seed(s3_endpoint: str, s3_config: S3Config) -> None:
    def faults(seed: int) -> list[bool]:
        with FaultProxy(s3_endpoint, s3_config, seed) as proxy:
            proxy.add(Refuse(), chance=0.3)
            return [proxy.fault("PUT", "/x") is not None for _ in range(50)]

    draw = random.Random(4)
    assert faults(4) == [draw.random() < 0.3 for _ in range(50)] != faults(5)


def test_the_clock_in_replies_is_the_stores_own(client: Client, flaky_s3: FaultProxy) -> None:
    client.ask("PUT", "x", b"1")
    assert len(client.replied.get_all("Date") or ()) == 1
