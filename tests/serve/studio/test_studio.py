"""The Studio over a tiny bundle in this process, on a real HTTP server, spoken to as its page does."""

from __future__ import annotations

import html
import io
import re
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import av
import httpx
import numpy as np
import pytest

from serve.config import GatewayConfig, Limits
from serve.protection.access import COOKIE
from serve.protection.callers import token_hash
from serve.verify import verify
from tests.serve.studio.driver import Page, studio_server

CONTROLS = ("number", 0.5, False, 0.3, 2, 2, 0, "")
"""What follows portrait, digest and speech: pose, …, seed, and the reference to a consent."""
"""Pose, its number, intensity left open, intensity, guidance, steps, seed."""
TOKENS = {"anna": "a" * 40, "bert": "b" * 40}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def address(tiny_bundle: Path, root: Path) -> Iterator[str]:
    """A Studio that lets one render in at a time, of two tenants."""
    lines = [
        f"  - {{name: {name}, tenant: {name}, sha256: {token_hash(token)}}}" for name, token in TOKENS.items()
    ]
    (root / "tokens.yaml").write_text("\n".join(["tokens:", *lines]))
    gateway = GatewayConfig(port=0, tokens=root / "tokens.yaml", limits=Limits(streams=1, steps=50))
    with studio_server(tiny_bundle, root, gateway) as address:
        yield address


@pytest.fixture
def http(address: str) -> Iterator[httpx.Client]:
    """Anna's browser."""
    with _browser(address, "anna") as client:
        yield client


@pytest.fixture
def page(http: httpx.Client) -> Page:
    return Page(http)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds."""
    return _speech(tmp_path_factory.mktemp("speech") / "speech.wav", 2)


@pytest.fixture(scope="module")
def long_speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten minutes: more than any test waits for."""
    return _speech(tmp_path_factory.mktemp("speech") / "long.wav", 600)


def test_a_render_plays_and_ends_in_a_signed_file(
    page: Page, http: httpx.Client, portrait: Path, speech: Path, root: Path
) -> None:
    told = page.press("ifmdm-render", page.upload(portrait), "", page.upload(speech), *CONTROLS)
    assert "Done: 50 frames" in told
    assert 'class=\\"opening\\"' in told
    play = _play(told)
    reply = http.get(play)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "video/mp4")
    with av.open(io.BytesIO(reply.content)) as video:
        assert sum(1 for _ in video.decode(video=0)) == 50
        assert video.streams.audio
    identifier = play.rpartition("/")[2]
    assert f"/v1/files/{identifier}" in told
    assert http.get(f"/v1/files/{identifier}").content == (root / f"files/anna/{identifier}.mp4").read_bytes()
    verdict = verify(root / f"files/anna/{identifier}.mp4")
    assert verdict.good
    assert verdict.record is not None
    assert verdict.record["controls"]["pose"] == 0.5


def test_the_video_can_be_taken_up_in_the_middle(
    page: Page, http: httpx.Client, portrait: Path, speech: Path
) -> None:
    told = page.press("ifmdm-render", page.upload(portrait), "", page.upload(speech), *CONTROLS)
    whole = http.get(_play(told)).content
    part = http.get(_play(told), headers={"Range": "bytes=1000-"})
    assert (part.status_code, part.content) == (206, whole[1000:])
    assert part.headers["content-range"] == f"bytes 1000-{len(whole) - 1}/{len(whole)}"
    beyond = http.get(_play(told), headers={"Range": f"bytes={len(whole)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(whole)}")


def test_a_registered_portrait_renders_again(page: Page, portrait: Path, speech: Path) -> None:
    told = page.press("ifmdm-render", page.upload(portrait), "", page.upload(speech), *CONTROLS)
    found = re.search(r"registered as <code>([0-9a-f]{64})</code>", told)
    assert found
    controls = ("hold", 0.5, True, 0.3, 2, 2, 0, "form 17")
    assert "Done: 50 frames" in page.press("ifmdm-render", None, found[1], page.upload(speech), *controls)


def test_what_cannot_be_rendered_is_said_with_its_fix(
    page: Page, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    (tmp_path / "<b>face.jpg").write_bytes(b"not a picture")
    _speech(tmp_path / "silent.wav", 1, loudness=0)
    picture, sound = page.upload(portrait), page.upload(speech)
    bad_picture, silence = page.upload(tmp_path / "<b>face.jpg"), page.upload(tmp_path / "silent.wav")
    steps = ("number", 0.5, False, 0.3, 2, 51, 0, "")
    seed = ("number", 0.5, False, 0.3, 2, 2, None, "")
    for given, says in (
        ((None, "", sound, *CONTROLS), "there is no portrait.*drop a photo"),
        ((picture, "", None, *CONTROLS), "there is no speech.*record one"),
        ((picture, "ab" * 32, sound, *CONTROLS), "both given.*clear one"),
        ((None, "ab" * 32, sound, *CONTROLS), "abab.*register"),
        ((bad_picture, "", sound, *CONTROLS), "&lt;b&gt;face.jpg"),
        ((picture, "", silence, *CONTROLS), "silent.wav: is silent"),
        ((picture, "", sound, *steps), "steps is 51.*at most 50"),
        ((picture, "", sound, *seed), "seed"),
    ):
        told = page.press("ifmdm-render", *given)
        assert re.search(rf'role=\\"alert\\".*{says}', told), (says, told)
        assert "Traceback" not in told


def test_stop_ends_a_render_and_lets_the_next_one_in(
    page: Page, portrait: Path, speech: Path, long_speech: Path
) -> None:
    picture = page.upload(portrait)
    page.join("ifmdm-render", picture, "", page.upload(long_speech), *CONTROLS).raise_for_status()
    told, stopped = "", False
    for event in page.events():
        told += str(event)
        if not stopped and "/studio/play/" in told:
            page.join("ifmdm-stop").raise_for_status()
            stopped = True
    assert "Stopped." in told
    assert "Done" not in told
    assert "Done: 50 frames" in page.press("ifmdm-render", picture, "", page.upload(speech), *CONTROLS)


def test_leaving_the_page_ends_its_render(
    http: httpx.Client, page: Page, portrait: Path, speech: Path, long_speech: Path
) -> None:
    page.join(
        "ifmdm-render", page.upload(portrait), "", page.upload(long_speech), *CONTROLS
    ).raise_for_status()
    events = page.events()
    while "/studio/play/" not in str(next(events)):
        pass
    other = Page(http)
    given = other.upload(portrait), "", other.upload(speech), *CONTROLS
    assert "all 1 streams are taken" in other.press("ifmdm-render", *given)
    events.close()
    deadline = time.monotonic() + 60
    while "Done" not in other.press("ifmdm-render", *given):
        assert time.monotonic() < deadline, "the render goes on although nobody is there"
        time.sleep(0.5)


def test_only_the_tenant_sees_its_video(address: str, page: Page, portrait: Path, speech: Path) -> None:
    told = page.press("ifmdm-render", page.upload(portrait), "", page.upload(speech), *CONTROLS)
    with _browser(address, "bert") as bert:
        assert bert.get(_play(told)).status_code == 404
    with httpx.Client(base_url=address) as nobody:
        assert nobody.get(_play(told)).status_code == 401
        assert nobody.get("/studio/config").status_code == 401
        assert nobody.post("/studio/gradio_api/queue/join", json={}).status_code == 401
        entered = nobody.get("/studio/", headers={"Accept": "text/html"})
        assert (entered.status_code, entered.headers["location"]) == (303, "/login?next=/studio/")


@pytest.mark.parametrize(
    "path",
    [
        "/studio/gradio_api/proxy=http://127.0.0.1:1/",
        "/studio/gradio_api/file=http://127.0.0.1:1/",
        "/studio/monitoring",
        "/studio/gradio_api/openapi.json",
        "/studio/gradio_api/runs",
        "/studio/play/../login",
    ],
)
def test_gradio_answers_only_what_the_page_needs(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code == 404


def test_files_of_the_server_cannot_be_read(http: httpx.Client) -> None:
    assert http.get("/studio/gradio_api/file=/etc/passwd").status_code == 403


def test_only_uploaded_files_are_taken(page: Page, portrait: Path, speech: Path) -> None:
    """Without the guard this renders: mounted, Gradio takes any path that a request names."""
    theirs = {"path": str(portrait), "orig_name": "a.jpg", "meta": {"_type": "gradio.FileData"}}
    remote = {**theirs, "path": "https://example.com/a.jpg"}
    for given in (theirs, remote):
        told = page.press("ifmdm-render", given, "", page.upload(speech), *CONTROLS)
        assert "Done" not in told
        assert '"success": false' in told


def test_the_page_needs_no_other_server(http: httpx.Client) -> None:
    shown = http.get("/studio/").text
    loaded = re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="([^"]+)"', shown)
    assert loaded
    assert [link for link in loaded if "://" in link and not link.startswith("http://127.0.0.1")] == []


def _browser(address: str, name: str) -> httpx.Client:
    return httpx.Client(base_url=address, cookies={COOKIE: TOKENS[name]}, timeout=60)


def _play(told: str) -> str:
    """Address of the video that the page was told of."""
    found = re.search(r"/studio/play/[0-9a-f]{32}", html.unescape(told))
    assert found, told
    return found[0]


def _speech(path: Path, seconds: int, loudness: float = 0.3) -> Path:
    noise = np.random.default_rng(0).normal(0, loudness, 16_000 * seconds).clip(-1, 1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((noise * 32_767).astype("<i2").tobytes())
    return path
