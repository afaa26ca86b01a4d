"""Callbacks are told at least once, signed, and only where they may be."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from ifmdm_core.errors import BadInput, Conflict, Forbidden, Unavailable
from jobs import pinned_post, steer
from jobs.gc import DAY_S, collect
from jobs.names import JobRef, Webhook
from jobs.pinned_post import is_public, post
from jobs.webhooks import SIGNATURE, Deliverer, tenant_secret
from tests.jobs.small_store import SmallStore

SECRET = b"0123456789abcdef"


class Receiver:
    """A real HTTP server that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, str], bytes]] = []
        self.status, self.location, self.drip = 204, "", threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.told.append((self.path, dict(self.headers), body))
                if outer.drip.is_set():
                    while outer.drip.is_set():
                        self.wfile.write(b"H")
                        self.wfile.flush()
                        outer.drip.wait(0.05)
                    return
                self.send_response(outer.status)
                if outer.location:
                    self.send_header("Location", outer.location)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def close(self) -> None:
        self.drip.clear()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture(params=["folder", "s3"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> SmallStore:
    if request.param == "folder":
        small = SmallStore(tmp_path / "store")
    else:
        small = SmallStore(f"s3://renders/{tmp_path.name}", request.getfixturevalue("s3_config"))
    small.let_in("default", webhook_hosts=("127.0.0.1", "hooks.example"))
    return small


@pytest.fixture
def disk(tmp_path: Path) -> SmallStore:
    small = SmallStore(tmp_path / "store")
    small.let_in("default", webhook_hosts=("127.0.0.1", "hooks.example"))
    return small


def names(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """hooks.example resolves to these, one after the other; gives the list of names that were asked for."""
    asked: list[str] = []
    real, left = socket.getaddrinfo, list(addresses)

    def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host != "hooks.example":
            return real(host, port, *args, **options)
        asked.append(host)
        address = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_an_end_is_told_once_and_signed(small: SmallStore, receiver: Receiver) -> None:
    ref = small.submit("a", callback=receiver.url("/hook?key=1"), labels={"team": "rød"})
    small.work()
    deliverer = Deliverer(small.store, SECRET)
    assert deliverer.deliver() == 1
    assert small.keys("webhooks/") == []
    assert deliverer.deliver() == 0
    ((path, headers, body),) = receiver.told
    assert path == "/hook?key=1"
    key = hmac.new(SECRET, b"default", hashlib.sha256).hexdigest()  # as its receiver has it
    assert tenant_secret(SECRET, "default") == key
    assert headers[SIGNATURE] == "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    message = json.loads(body)
    assert message == {
        "id": hashlib.sha256(f"default/{ref.id}/3".encode()).hexdigest(), "job": ref.id, "tenant": "default",
        "state": "published", "output": small.uri("out/a.mp4"), "fault": None, "labels": {"team": "rød"},
        "sha256": hashlib.sha256(small.storage.get("out/a.mp4")).hexdigest(), "at": small.view(ref).state.ended_at,
    }  # fmt: skip


def test_failures_and_cancellations_are_told_too(disk: SmallStore, receiver: Receiver) -> None:
    disk.renderer.faults = lambda task: BadInput("no face", fix="another photo")
    disk.submit("a", callback=receiver.url())
    disk.work()
    steer.stop(disk.store, disk.submit("b", callback=receiver.url()), "cancel")
    assert Deliverer(disk.store, SECRET).deliver() == 2
    told = {message["state"]: message for message in (json.loads(body) for *_, body in receiver.told)}
    assert told["failed"]["fault"]["what"] == "no face"
    assert (told["cancelled"]["sha256"], told["cancelled"]["fault"]) == (None, None)


def test_a_dead_receiver_is_told_when_it_is_back(disk: SmallStore, receiver: Receiver) -> None:
    for name in "abc":
        disk.submit(name, callback=receiver.url())
    disk.work()
    deliverer = Deliverer(disk.store, SECRET)
    receiver.status = 500
    assert deliverer.deliver() == 0
    assert len(receiver.told) == 1  # it is not asked again and again in one pass
    receiver.status = 200
    for _ in range(5):
        disk.clock.passed += 60
        deliverer.deliver()
    assert disk.keys("webhooks/") == []
    assert len({json.loads(body)["job"] for *_, body in receiver.told}) == 3
    assert len({json.loads(body)["id"] for *_, body in receiver.told}) == 3  # the same whenever told


def test_tries_become_rarer_with_age_and_end_after_a_day(disk: SmallStore, receiver: Receiver) -> None:
    disk.submit("a", callback=receiver.url())
    disk.work()
    receiver.status = 503
    deliverer = Deliverer(disk.store, SECRET)
    disk.grow_older(4 * 3600, "webhooks/")
    deliverer.deliver()
    disk.clock.passed += 1000  # of a quarter of four hours
    deliverer.deliver()
    assert len(receiver.told) == 1
    disk.grow_older(DAY_S, "webhooks/")
    deliverer.deliver()
    assert disk.keys("webhooks/") == []


def test_redirects_are_not_followed(disk: SmallStore, receiver: Receiver) -> None:
    other = Receiver()
    receiver.status, receiver.location = 307, other.url()
    disk.submit("a", callback=receiver.url())
    disk.work()
    assert Deliverer(disk.store, SECRET).deliver() == 0
    assert len(receiver.told) == 1
    assert other.told == []
    other.close()


def test_a_host_that_is_not_allowed_any_more_is_not_called(disk: SmallStore, receiver: Receiver) -> None:
    disk.submit("a", callback=receiver.url())
    disk.work()
    disk.let_in("default", webhook_hosts=())
    assert Deliverer(disk.store, SECRET).deliver() == 0
    assert receiver.told == []


def test_a_name_of_this_machine_is_refused(
    disk: SmallStore, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, "127.0.0.1")
    disk.submit("a", callback=receiver.url(host="hooks.example"))
    disk.work()
    assert Deliverer(disk.store, SECRET).deliver() == 0
    assert receiver.told == []
    assert Deliverer(disk.store, SECRET, private=True).deliver() == 1
    assert receiver.told[0][1]["Host"] == f"hooks.example:{receiver.port}"


def test_only_the_address_that_was_checked_is_connected_to(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = names(monkeypatch, "127.0.0.1", "192.0.2.1")  # rebound between the check and the connection
    assert post(receiver.url(host="hooks.example"), b"{}", {}, private=True) == 204
    assert asked == ["hooks.example"]
    names(monkeypatch, "93.184.216.34", "127.0.0.1")
    connected: list[Any] = []

    def connect(address: Any, timeout: float) -> socket.socket:
        connected.append(address[0])
        raise OSError("not from a test")

    monkeypatch.setattr(pinned_post.socket, "create_connection", connect)
    with pytest.raises(Unavailable, match=r"hooks\.example did not answer"):
        post(receiver.url(host="hooks.example"), b"{}", {})
    assert connected == ["93.184.216.34"]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True), ("2606:4700::6810:84e5", True),
        ("127.0.0.1", False), ("10.1.2.3", False), ("172.16.0.1", False), ("192.168.1.1", False),
        ("169.254.169.254", False), ("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False),
        ("255.255.255.255", False), ("::1", False), ("::", False), ("fe80::1", False), ("fe80::1%eth0", False),
        ("fd00::1", False), ("ff02::1", False), ("::ffff:127.0.0.1", False), ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False), ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) == public


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/", "http://[::1]/", "http://localhost/", "http://0x7f000001/", "http://2130706433/"],
)
def test_this_machine_by_any_name_is_refused(url: str) -> None:
    with pytest.raises((Forbidden, Unavailable)):
        post(url, b"{}", {})


@pytest.mark.parametrize("url", ["ftp://host/", "http:///x", "http://host:99999/", "file:///etc/passwd"])
def test_other_addresses_are_no_callbacks(url: str) -> None:
    with pytest.raises(BadInput):
        post(url, b"{}", {})


def test_headers_cannot_be_smuggled_in(receiver: Receiver) -> None:
    with pytest.raises(Unavailable):
        post(receiver.url("/x HTTP/1.1\r\nX-Evil: 1\r\n"), b"{}", {}, private=True)
    assert receiver.told == []


def test_a_trickle_of_an_answer_ends_too(receiver: Receiver) -> None:
    receiver.drip.set()
    with pytest.raises(Unavailable):
        post(receiver.url(), b"{}", {}, private=True, timeout_s=0.5)


def test_https_is_checked_against_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver()
    certificate = _certificate(tmp_path, "hooks.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    names(monkeypatch, "127.0.0.1")
    url = receiver.url(host="hooks.example").replace("http:", "https:")
    with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        post(url, b"{}", {}, private=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert post(url, b"{}", {}, private=True) == 204
    with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        post(url.replace("hooks.example", "127.0.0.1"), b"{}", {}, private=True)
    receiver.close()


def test_a_job_that_was_cleaned_up_is_told_from_its_record(disk: SmallStore, receiver: Receiver) -> None:
    disk.submit("a", callback=receiver.url())
    disk.work()
    kept = disk.keys("webhooks/")[0]
    disk.grow_older(8 * DAY_S)
    collect(disk.store, dry_run=False)
    disk.storage.put(kept, b"")
    assert Deliverer(disk.store, SECRET).deliver() == 1
    assert json.loads(receiver.told[0][2])["state"] == "published"


def test_hints_that_lead_nowhere_go(disk: SmallStore) -> None:
    disk.storage.put(Webhook(JobRef("default", "0" * 32), 3).key, b"")
    disk.storage.put(Webhook(disk.submit("a"), 3).key, b"")  # has no callback
    assert Deliverer(disk.store, SECRET).deliver() == 0
    assert disk.keys("webhooks/") == []


def test_a_short_secret_is_refused(disk: SmallStore) -> None:
    with pytest.raises(Conflict, match="16 at least"):
        Deliverer(disk.store, b"secret")


def _certificate(folder: Path, name: str) -> Path:
    """A self-made certificate with its key, PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "certificate.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path
