"""Whom the gateway animates: consent where a token needs it, the deny-list, the operator's check, and the audit log."""

from __future__ import annotations

import io
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from ifmdm_core import denylist
from ifmdm_core.audit import AuditLog
from ifmdm_core.audit_check import Told, check, events
from ifmdm_core.controls import RenderControls
from ifmdm_core.denylist import Denial, DenyList, Entry
from ifmdm_core.errors import IfmdmError
from ifmdm_core.media.look import look
from ifmdm_core.portrait import open_portrait
from ifmdm_core.provenance import read_tags, sha256_of
from ifmdm_core.storage import Storage, open_storage
from serve.app import application
from serve.messages import ModelFacts
from serve.portrait_check import Ask
from tests.serve.gateways import Gateways, RunningGateway

SMALL = {"steps": "2", "fps": "5"}
HOOK = "tests_consent_hook"


@pytest.fixture(scope="module")
def oversight(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return open_storage(tmp_path_factory.mktemp("oversight"))


@pytest.fixture(scope="module")
def watched(gateways: Gateways, oversight: Storage) -> Iterator[tuple[RunningGateway, dict[str, str]]]:
    """A gateway with a token that needs consent and one that does not, and an operator who knows one bad reference."""
    module = types.ModuleType(HOOK)
    module.check = _check  # type: ignore[attr-defined]
    sys.modules[HOOK] = module
    path, tokens = gateways.tokens(strict={"consent": "required", "tenant": "acme"}, free={"tenant": "acme"})
    settings = (f"gateway.tokens={path}", f"oversight={oversight.root}", f"consent_hook={HOOK}:check")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denylist, "FRESH_S", -1.0)
        yield gateways.start(*settings), tokens
    sys.modules.pop(HOOK)


def _check(ask: Ask) -> str | None:
    return "that form was withdrawn" if ask.consent == "withdrawn" else None


def asked(
    watched: tuple[RunningGateway, dict[str, str]], who: str, path: str, files: dict[str, bytes], **fields: str
) -> httpx.Response:  # fmt: skip
    gateway, tokens = watched
    headers = {"Authorization": f"Bearer {tokens[who]}"}
    return httpx.post(f"{gateway.url}{path}", headers=headers, files=files, data=fields, timeout=120)


def told(watched: tuple[RunningGateway, dict[str, str]], gateways: Gateways, storage: Storage) -> list[Told]:
    gateways.run(watched[0].service.record())
    return sorted(events(storage), key=lambda told: (told.event.at, told.key))


def again(photo: bytes) -> bytes:
    """The same picture in other bytes."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(photo)).save(buffer, "jpeg", quality=80)
    return buffer.getvalue()


def test_a_token_that_needs_consent_gets_nothing_without(
    watched: tuple[RunningGateway, dict[str, str]],
    gateways: Gateways,
    oversight: Storage,
    portrait: Path,
    speech: Path,
    tmp_path: Path,
) -> None:
    photo, sound = portrait.read_bytes(), speech.read_bytes()
    both = {"portrait": photo, "audio": sound}
    for path, files in (("/v1/render", both), ("/v1/identities", {"portrait": photo})):
        answer = asked(watched, "strict", path, files, **(SMALL if "render" in path else {}))
        assert answer.status_code == 403, answer.text
        assert "consent" in answer.json()["error"]
    answer = asked(watched, "strict", "/v1/render", both, **SMALL, consent="form 17")
    assert answer.status_code == 200, answer.text
    video = tmp_path / "video.mp4"
    video.write_bytes(answer.content)
    record = read_tags(video)
    assert record is not None
    assert record["consent"] == "form 17"
    digest = answer.headers["x-ifmdm-identity"]
    assert asked(watched, "strict", "/v1/render", {"audio": sound}, identity=digest).status_code == 403
    withdrawn = asked(watched, "free", "/v1/render", both, **SMALL, consent="withdrawn")
    assert (withdrawn.status_code, "withdrawn" in withdrawn.json()["error"]) == (403, True)

    found = told(watched, gateways, oversight)
    assert [event.what for event in (t.event for t in found)].count("refused") == 4
    rendered = [t for t in found if t.event.what == "rendered"]
    assert [(t.tenant, t.event.who, t.event.subject) for t in rendered] == [
        ("acme", "strict", answer.headers["x-ifmdm-render-id"])
    ]
    assert rendered[0].event.digests["portrait"] == digest
    assert rendered[0].event.digests["audio"] == sha256_of(sound)
    assert "form 17" in rendered[0].event.note
    registered = next(t for t in found if t.event.what == "portrait registered")
    assert (registered.event.subject, registered.event.digests["file"]) == (digest, sha256_of(photo))
    assert check(oversight, 0.0).problems == []


def test_a_denied_portrait_is_refused_in_other_bytes_and_registered_before(
    watched: tuple[RunningGateway, dict[str, str]],
    gateways: Gateways,
    oversight: Storage,
    portrait: Path,
    speech: Path,
) -> None:
    photo, sound = portrait.read_bytes(), speech.read_bytes()
    digest = asked(watched, "free", "/v1/identities", {"portrait": photo}).json()["digest"]
    crop = open_portrait(photo, RenderControls(), 256).crop
    denied = DenyList(oversight)
    denied.add(
        Entry(sha256_of(photo), look(crop)), Denial(reason="she asked us to", contact="privacy@example.com")
    )
    files = {"audio": sound}
    tries = {
        "the file": asked(watched, "free", "/v1/render", {"portrait": photo, **files}, **SMALL),
        "other bytes": asked(watched, "free", "/v1/render", {"portrait": again(photo), **files}, **SMALL),
        "registered before": asked(watched, "free", "/v1/render", files, **SMALL, identity=digest),
        "registering": asked(watched, "free", "/v1/identities", {"portrait": again(photo)}),
    }
    for how, answer in tries.items():
        assert answer.status_code == 403, (how, answer.text)
        assert "she asked us to" in answer.json()["error"], how
        assert "privacy@example.com" in answer.json()["fix"], how
    refused = [t for t in told(watched, gateways, oversight) if "she asked us to" in t.event.note]
    assert [(t.event.what, t.event.who) for t in refused] == [("refused", "free")] * len(tries)
    denied.remove(*denied.starting_with(sha256_of(photo)))
    assert asked(watched, "free", "/v1/render", files, **SMALL, identity=digest).status_code == 200


def test_a_switch_of_the_model_is_told_with_who_did_it(gateways: Gateways, tmp_path: Path) -> None:
    gateway = gateways.start(f"oversight={tmp_path}")
    facts = gateways.stages().facts

    async def roll_out(uri: str, sha256: str | None) -> ModelFacts:
        return facts

    async def switched() -> int:
        app = application(gateway.config.gateway, gateway.service, roll_out)
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            answer = await client.post("/v1/models", json={"uri": "demo"})
        await gateway.service.record()
        return answer.status_code

    assert gateways.run(switched()) == 200
    (told,) = events(open_storage(tmp_path))
    assert (told.event.what, told.event.who, told.event.digests) == (
        "model switched", "local", {"model": facts.digest}
    )  # fmt: skip


def test_the_audit_log_outlives_a_store_that_is_away(tmp_path: Path) -> None:
    place = tmp_path / "root"
    place.write_text("a file where a folder should be")
    log = AuditLog(open_storage(place), "gateway")
    log.note("acme", "rendered", "t", "one")
    with pytest.raises((IfmdmError, OSError)):
        log.flush()
    place.unlink()
    assert log.flush() == 1
    assert json.loads(next(iter(place.rglob("*.json"))).read_text())["events"][0]["subject"] == "one"
