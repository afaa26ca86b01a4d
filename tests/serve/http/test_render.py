"""POST /v1/render over real HTTP: streams, files, identities, refusals."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import av
import httpx
import pytest

from ifmdm_core.provenance import read_tags
from serve.frame_counter import FrameCounter
from serve.verify import verify
from tests.serve.gated import GatedStages, until
from tests.serve.gateways import Gateways, RunningGateway
from tests.serve.http.conftest import raw


def form(portrait: Path | None, audio: Path | None, **fields: Any) -> dict[str, Any]:
    """Keyword arguments of a POST."""
    given = {"portrait": portrait, "audio": audio}
    return {
        "files": {name: (path.name, path.read_bytes()) for name, path in given.items() if path is not None},
        "data": {name: str(value) for name, value in {"steps": 2, **fields}.items()},
    }


def frames_of(data: bytes) -> int:
    """Frames that a decoder finds."""
    with av.open(io.BytesIO(data)) as container:
        return sum(1 for _ in container.decode(video=0))


def link(answer: httpx.Response) -> str:
    """The address in Link."""
    return answer.headers["link"].partition(">")[0].removeprefix("<")


def fetched(http: httpx.Client, url: str) -> httpx.Response:
    """A finished file, waited for as a client does."""
    answer = http.get(url)

    def there() -> bool:
        nonlocal answer
        answer = http.get(url)
        return answer.status_code != 503

    if answer.status_code == 503:
        assert float(answer.headers["retry-after"]) >= 1
        until(there, f"{url} is stored")
    return answer


def test_a_stream_is_a_video_and_its_signed_file_follows(
    http: httpx.Client, gateway: RunningGateway, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    answer = http.post("/v1/render", **form(portrait, speech))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "video/mp4"
    assert frames_of(answer.content) == 50 == int(answer.headers["x-ifmdm-frames"])
    (tmp_path / "stream.mp4").write_bytes(answer.content)
    tags = read_tags(tmp_path / "stream.mp4")
    assert tags is not None
    assert tags["inputs"]["portrait"] == answer.headers["x-ifmdm-identity"]
    assert tags["model_sha256"] == gateways_digest(gateway)

    finished = fetched(http, link(answer))
    assert finished.status_code == 200
    (tmp_path / "file.mp4").write_bytes(finished.content)
    verdict = verify(tmp_path / "file.mp4")
    assert verdict.good, verdict
    assert frames_of(finished.content) == 50
    part = http.get(link(answer), headers={"Range": "bytes=0-99"})
    assert (part.status_code, part.content) == (206, finished.content[:100])


def gateways_digest(gateway: RunningGateway) -> str:
    """Of the bundle it serves."""
    return gateway.service.models.listed()[0].digest


def test_a_file_is_delivered_when_it_is_there(http: httpx.Client, portrait: Path, speech: Path) -> None:
    answer = http.post("/v1/render", **form(portrait, speech, delivery="file", fps=10, size=96))
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert (said["frames"], said["fps"], said["width"], said["height"]) == (20, 10, 96, 96)
    finished = http.get(said["url"])
    assert finished.status_code == 200
    assert frames_of(finished.content) == 20


def test_a_registered_portrait_gives_the_same_video(http: httpx.Client, portrait: Path, speech: Path) -> None:
    registered = http.post("/v1/identities", files={"portrait": portrait.read_bytes()})
    assert registered.status_code == 201, registered.text
    digest = registered.json()["digest"]
    uploaded = http.post("/v1/render", **form(portrait, speech, seed=7))
    named = http.post("/v1/render", **form(None, speech, seed=7, identity=digest))
    other = http.post("/v1/render", **form(None, speech, seed=8, identity=digest))
    assert named.content == uploaded.content
    assert other.content != uploaded.content


def test_controls_come_as_json_and_single_fields_override_them(
    http: httpx.Client, portrait: Path, speech: Path
) -> None:
    asked = {"seed": 3, "fps": 10, "pose": 0.25, "intensity": None}
    as_json = http.post(
        "/v1/render", **form(portrait, speech, controls=json.dumps({**asked, "fps": 50}), fps=10)
    )
    as_fields = http.post("/v1/render", **form(portrait, speech, seed=3, fps=10, pose=0.25, intensity="none"))
    assert as_json.status_code == as_fields.status_code == 200, as_json.text
    assert frames_of(as_json.content) == 20
    assert as_json.content == as_fields.content


def test_a_face_is_pasted_back_into_a_registered_whole(
    http: httpx.Client, portrait: Path, speech: Path
) -> None:
    kept = http.post(
        "/v1/identities", files={"portrait": portrait.read_bytes()}, data={"paste_back": "true"}
    ).json()
    answer = http.post(
        "/v1/render", **form(None, speech, identity=kept["digest"], paste_back=True, delivery="file")
    )
    assert answer.status_code == 200, answer.text
    assert (answer.json()["width"], answer.json()["height"]) == (512, 512)
    plain = http.post("/v1/identities", files={"portrait": portrait.read_bytes()}).json()
    refused = http.post("/v1/render", **form(None, speech, identity=plain["digest"], paste_back=True))
    assert refused.status_code == 422
    assert "whole picture" in refused.json()["error"]


@pytest.mark.parametrize(
    ("fields", "files", "status", "says"),
    [
        ({}, ("audio",), 422, "neither of portrait and portrait_uri"),
        ({}, ("portrait",), 422, "neither of audio and audio_uri"),
        ({"audio_uri": "/x.wav"}, ("portrait", "audio"), 422, "both of audio and audio_uri"),
        ({"identity": "0" * 64}, ("audio",), 404, "no portrait 000000000000"),
        ({"identity": "0" * 64}, ("audio", "portrait"), 422, "both given"),
        ({"identity": "xyz"}, ("audio",), 422, "identity is 'xyz'"),
        ({"steps": 251}, ("audio", "portrait"), 422, "steps is 251"),
        ({"size": 1026}, ("audio", "portrait"), 422, "size is 1026"),
        ({"steps": "many"}, ("audio", "portrait"), 422, "steps is 'many'"),
        ({"stpes": 3}, ("audio", "portrait"), 422, "stpes"),
        ({"controls": '{"stpes": 3}'}, ("audio", "portrait"), 422, "did you mean 'steps'?"),
        ({"controls": "[1"}, ("audio", "portrait"), 422, "controls is no JSON"),
        ({"controls": "[1]"}, ("audio", "portrait"), 422, "no JSON object"),
        ({"model": "other"}, ("audio", "portrait"), 404, "no model 'other'"),
        ({"delivery": "post"}, ("audio", "portrait"), 422, "delivery is 'post'"),
        ({"face": "9"}, ("audio", "portrait"), 422, "face"),
    ],
)
def test_what_cannot_be_rendered_is_refused_with_reason_and_fix(
    http: httpx.Client,
    gateway: RunningGateway,
    portrait: Path,
    speech: Path,
    fields: dict[str, Any],
    files: tuple[str, ...],
    status: int,
    says: str,
) -> None:
    given = form(portrait if "portrait" in files else None, speech if "audio" in files else None, **fields)
    answer = http.post("/v1/render", **given)
    assert answer.status_code == status, answer.text
    said = answer.json()
    assert says in f"{said['error']}; {said['fix']}"
    assert said["request_id"] == answer.headers["x-request-id"]
    until(lambda: gateway.service.admission.held == 0, "the slot is given back")


def test_pieces_arrive_while_the_rest_is_not_made_yet(
    gateways: Gateways, portrait: Path, speech: Path
) -> None:
    stages = GatedStages(gateways.stages(), first_held=2)
    gateway = gateways.start(stages=stages)
    with httpx.Client(base_url=gateway.url, timeout=60) as http:
        request = http.build_request("POST", "/v1/render", **form(portrait, speech))
        answer = http.send(request, stream=True)
        counter = FrameCounter()
        pieces = answer.iter_raw()
        while counter.frames < 2 * stages.facts.chunk:
            counter.add(next(pieces))
        assert not stages.gate.is_set()
        under_way = http.get(link(answer))
        assert under_way.status_code == 503
        stages.gate.set()
        for piece in pieces:
            counter.add(piece)
        assert counter.frames == 50


@pytest.mark.parametrize("delivery", ["stream", "file"])
def test_a_client_that_goes_stops_the_work(
    gateways: Gateways, portrait: Path, speech: Path, delivery: str
) -> None:
    stages = GatedStages(gateways.stages(), first_held=1)
    gateway = gateways.start(stages=stages)
    request = httpx.Request("POST", f"{gateway.url}/v1/render", **form(portrait, speech, delivery=delivery))
    with raw(gateway, request) as connection:
        until(lambda: stages.calls["decode"] >= 2, "the second chunk is asked for")
        if delivery == "stream":
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert gateway.service.admission.held == 1
    until(lambda: gateway.service.admission.held == 0, "the slot is given back")
    until(lambda: not gateway.service.streams, "the stream is closed")
    assert stages.cancelled >= 1
    assert stages.calls["decode"] <= 3
    assert b'outcome="cancelled"' in gateway.service.metrics.exposition()[0]
