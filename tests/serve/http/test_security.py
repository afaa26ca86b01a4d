"""Strangers' files and addresses: what may not be reached, run or exhausted."""

from __future__ import annotations

import io
import os
import socket
import struct
import subprocess
import sys
import tempfile
import wave
import zipfile
import zlib
from pathlib import Path

import httpx
import numpy as np
import pytest

from ifmdm_core.errors import BadInput
from ifmdm_core.storage import S3Config, open_storage
from serve.intake import Child, Intake
from tests.serve.gated import until
from tests.serve.gateways import Gateways, RunningGateway
from tests.serve.http.test_render import form, frames_of

PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile /etc/passwd\n"
DASH = b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>http://127.0.0.1/</BaseURL></MPD>'


@pytest.fixture
def allowed(
    gateways: Gateways, tmp_path: Path, portrait: Path, speech: Path
) -> tuple[RunningGateway, dict[str, str]]:
    """A gateway whose caller may read tmp_path/in, with a portrait and speech in it, and a secret beside it."""
    place = tmp_path / "in"
    place.mkdir()
    (place / "photo.jpg").write_bytes(portrait.read_bytes())
    (place / "speech.wav").write_bytes(speech.read_bytes())
    (tmp_path / "secret.jpg").write_bytes(portrait.read_bytes())
    (tmp_path / "in-other").mkdir()
    (tmp_path / "in-other" / "photo.jpg").write_bytes(portrait.read_bytes())
    (place / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (place / "folder").symlink_to(tmp_path)
    os.mkfifo(place / "pipe")
    path, tokens = gateways.tokens(acme={"inputs": [str(place), "s3://renders/acme"]})
    return gateways.start(f"gateway.tokens={path}"), {"Authorization": f"Bearer {tokens['acme']}"}


def test_files_inside_the_allowed_places_are_read(
    allowed: tuple[RunningGateway, dict[str, str]], tmp_path: Path
) -> None:
    gateway, headers = allowed
    uris = {
        "portrait_uri": str(tmp_path / "in" / "photo.jpg"),
        "audio_uri": f"file://{tmp_path}/in/speech.wav",
    }
    answer = httpx.post(f"{gateway.url}/v1/render", headers=headers, timeout=60, **form(None, None, **uris))
    assert answer.status_code == 200, answer.text
    assert frames_of(answer.content) == 50


def test_a_bucket_is_read_inside_its_allowed_prefix(
    allowed: tuple[RunningGateway, dict[str, str]],
    s3_config: S3Config,
    portrait: Path,
    speech: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gateway, headers = allowed
    monkeypatch.setenv("AWS_ENDPOINT_URL", str(s3_config.endpoint))
    storage = open_storage("s3://renders", s3_config)
    storage.put("acme/photo.jpg", portrait.read_bytes())
    storage.put("acme-2/photo.jpg", portrait.read_bytes())

    def asked(uri: str) -> httpx.Response:
        given = form(None, speech, portrait_uri=uri)
        return httpx.post(f"{gateway.url}/v1/render", headers=headers, timeout=60, **given)

    assert asked("s3://renders/acme/photo.jpg").status_code == 200
    assert asked("s3://renders/acme/none.jpg").status_code == 404
    for outside in (
        "s3://renders/acme-2/photo.jpg",
        "s3://renders/acme/../acme-2/photo.jpg",
        "s3://other/acme/x",
    ):
        assert asked(outside).status_code == 403, outside


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        ("http://169.254.169.254/latest/meta-data", 422),
        ("https://127.0.0.1/photo.jpg", 422),
        ("ftp://127.0.0.1/photo.jpg", 422),
        ("gopher://127.0.0.1:25/x", 422),
        ("file://example.com/photo.jpg", 422),
        ("/etc/passwd", 403),
        ("file:///etc/passwd", 403),
        ("{in}/../secret.jpg", 403),
        ("file://{in}/%2e%2e/secret.jpg", 403),
        ("{in}-other/photo.jpg", 403),
        ("{in}/link.jpg", 403),
        ("{in}/folder/secret.jpg", 403),
        ("{in}/pipe", 422),
        ("{in}/", 422),
        ("{in}/none.jpg", 404),
        ("concat:{in}/photo.jpg", 403),
        ("data:image/png;base64,AAAA", 403),
    ],
)
def test_addresses_outside_are_refused(
    allowed: tuple[RunningGateway, dict[str, str]], speech: Path, tmp_path: Path, uri: str, status: int
) -> None:
    gateway, headers = allowed
    given = form(None, speech, portrait_uri=uri.replace("{in}", str(tmp_path / "in")))
    answer = httpx.post(f"{gateway.url}/v1/render", headers=headers, timeout=60, **given)
    assert answer.status_code == status, answer.text


def test_without_allowed_places_no_address_is_read(http: httpx.Client, portrait: Path, speech: Path) -> None:
    answer = http.post("/v1/render", **form(None, speech, portrait_uri=str(portrait)))
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files/..%2f..%2froutes.json",
        "/v1/files/%2e%2e/%2e%2e/certificates/key.pem",
        "/v1/files/" + "0" * 31 + "/",
        "/v1/files/" + "g" * 32,
        "/v1/files/" + "0" * 32 + "%00",
        "/v1/files/" + "0" * 32,
    ],
)
def test_files_are_found_by_their_id_only(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert answer.status_code in (404, 422)
    assert "request_id" in answer.json()


@pytest.mark.parametrize(
    "content", [PLAYLIST, CONCAT, DASH, b"RIFF\x00\x00\x00\x00WAVE" + PLAYLIST, b"\x00" * 5000]
)
@pytest.mark.parametrize("name", ["speech.wav", "speech.m3u8", "speech.ffconcat"])
def test_playlists_are_no_sound_whatever_their_name(
    http: httpx.Client, portrait: Path, content: bytes, name: str
) -> None:
    files = {"portrait": portrait.read_bytes(), "audio": (name, content)}
    answer = http.post("/v1/render", files=files)
    assert answer.status_code == 422, answer.text
    assert "root:" not in answer.text


def test_a_picture_that_would_fill_memory_is_refused_by_its_header(http: httpx.Client, speech: Path) -> None:
    answer = http.post(
        "/v1/render", files={"portrait": _png_bomb(60_000, 60_000), "audio": speech.read_bytes()}
    )
    assert answer.status_code in (413, 422)
    assert "megapixel" in answer.json()["error"] or "pixels" in answer.json()["error"]


def test_sound_that_would_fill_the_disk_is_refused(
    gateways: Gateways, portrait: Path, tmp_path: Path
) -> None:
    import av

    path = tmp_path / "silence.flac"  # an hour of silence in a few kilobytes
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * 60), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        for number in range(60):
            frame.pts = number * 8000 * 60
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert path.stat().st_size < 1_000_000
    answer = httpx.post(f"{gateways.start().url}/v1/render", timeout=60, **form(portrait, path))
    assert answer.status_code == 413, answer.text
    assert "at most" in answer.json()["error"]


def test_a_header_that_lies_about_its_length_is_noticed_while_decoding(
    gateways: Gateways, portrait: Path, tmp_path: Path
) -> None:
    path = tmp_path / "long.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.random.default_rng(0).integers(-9000, 9000, 8000 * 20, np.int16).tobytes())
    data = bytearray(path.read_bytes())
    data[40:44] = struct.pack("<I", 0xFFFFFFFF)  # as writers do that do not know it yet
    path.write_bytes(data)
    gateway = gateways.start("gateway.limits.audio_s=5")
    answer = httpx.post(f"{gateway.url}/v1/render", timeout=60, **form(portrait, path))
    assert answer.status_code == 413, answer.text


def test_a_picture_that_is_also_something_else_stays_a_picture(
    http: httpx.Client, portrait: Path, speech: Path
) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../escape.txt", "x")
    script = b"<script>alert(1)</script>"
    polyglot = portrait.read_bytes() + script + archive.getvalue()
    answer = http.post(
        "/v1/render", files={"portrait": ("a.html", polyglot, "text/html"), "audio": speech.read_bytes()}
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "video/mp4"
    assert script not in answer.content


def test_a_decoder_that_dies_costs_one_request(gateways: Gateways, portrait: Path) -> None:
    starved = Intake(memory=64 << 20)  # too little to load anything: the child dies of every file

    async def ask() -> str:
        from ifmdm_core.controls import RenderControls

        try:
            await starved.portrait(portrait, RenderControls(), 64, "the portrait")
        except BadInput as error:
            return str(error)
        return "taken"

    try:
        assert "within the limits" in gateways.run(ask())
    finally:
        starved.close()


def test_a_decoder_may_not_think_forever(portrait: Path, tmp_path: Path) -> None:
    child = Child(cpu_s=0)
    request = {
        "what": "portrait", "path": str(portrait), "name": "the portrait", "folder": str(tmp_path), "size": 64,
        "controls": {},
    }  # fmt: skip

    def again_and_again() -> None:
        for _ in range(500):  # its CPU time is counted in whole seconds, and the first one is always granted
            child.ask(request)

    with pytest.raises(BadInput, match="within the limits"):
        again_and_again()
    child.close()


class SlowChild(Child):
    """A child that needs 2.5 s of CPU for its answer."""

    def start(self) -> None:
        code = (
            "import socket, sys, time\n"
            "while time.process_time() < 2.5: pass\n"
            "socket.socket(fileno=int(sys.argv[1])).sendall(b'{\"square\": 1}\\n')\n"
            "time.sleep(60)\n"
        )
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-c", code, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=(theirs.fileno(),))
        self._line, self._reader = ours, ours.makefile("rb")


def test_a_decoder_may_be_slow_but_not_stand_still() -> None:
    child = SlowChild(patience_s=1.0)
    assert child.ask({"name": "the portrait"}) == {"square": 1}
    with pytest.raises(BadInput, match=r"the portrait: .*stood still"):
        child.ask({"name": "the portrait"})
    child.close()


def test_a_decoder_that_is_killed_leaves_no_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    child = Child()
    child.start()
    assert child._process is not None
    environment = Path(f"/proc/{child._process.pid}/environ")
    until(environment.read_bytes, "a program that has just begun has its environment")
    variables = environment.read_bytes().split(b"\0")
    (place,) = [value.removeprefix(b"TMPDIR=") for value in variables if value.startswith(b"TMPDIR=")]
    (Path(place.decode()) / "half-decoded").write_bytes(b"speech")
    child._process.kill()
    child._process.wait()
    child.ensure()
    assert not list(tmp_path.rglob("half-decoded"))
    child.close()
    assert not list(tmp_path.iterdir())


def test_a_child_keeps_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("IFMDM_TOKEN", "s")
    child = Child()
    child.start()
    assert child._process is not None
    place = Path(f"/proc/{child._process.pid}/environ")
    until(place.read_bytes, "a program that has just begun has its environment")
    environment = place.read_bytes()
    child.close()
    assert b"PYTHONPATH=" in environment
    assert b"AWS_SECRET" not in environment
    assert b"IFMDM_TOKEN" not in environment


def test_a_fault_of_ours_tells_nothing_but_its_request(
    http: httpx.Client, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(gateway.service.models, "listed", fails)
    answer = http.get("/v1/models", headers={"X-Request-Id": "abc-1"})
    assert answer.status_code == 500
    assert answer.json() == {
        "error": "internal error", "fix": "tell the operator the request_id", "request_id": "abc-1"
    }  # fmt: skip


def _png_bomb(width: int, height: int) -> bytes:
    """A PNG of that size whose pixels are all there: a row of zeros, again and again, in kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packed = zlib.compressobj(9)
    rows = b"".join(packed.compress(b"\0" * (1 + width)) for _ in range(200)) + packed.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
