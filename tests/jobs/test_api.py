"""/v1/jobs on the gateway's own application: tokens, tenants, errors as everywhere else."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from starlette.testclient import TestClient

from jobs.api import router_for
from jobs.names import JobRef
from serve.admission import Admission
from serve.app import application
from serve.config import GatewayConfig
from serve.protection.callers import token_hash
from tests.jobs.small_store import SmallStore


@pytest.fixture
def small(tmp_path: Path) -> SmallStore:
    small = SmallStore(tmp_path / "store")
    small.let_in("other")
    return small


@pytest.fixture
def call(small: SmallStore, tmp_path: Path) -> Any:
    """Sends a request: call("GET", "/v1/jobs", who="default", json=…)."""
    names = ("default", "other", "unknown")
    tokens = [{"name": f"the {name} team", "tenant": name, "sha256": token_hash(name)} for name in names]
    tokens.append(
        {"name": "scraper", "tenant": "default", "sha256": token_hash("scraper"), "scopes": ["metrics"]}
    )
    path = tmp_path / "tokens.yaml"
    path.write_text(yaml.safe_dump({"tokens": tokens}))
    made = pickle.loads(pickle.dumps(partial(router_for, str(small.storage.root))))  # as replicas get it
    config = GatewayConfig(tokens=path)
    # Of the renders' part only what the layers around every route ask for.
    service: Any = SimpleNamespace(
        admission=Admission(1), metrics=SimpleNamespace(rejected=lambda reason: None)
    )
    client = TestClient(application(config, service, routers=[made]), raise_server_exceptions=False)

    def call(method: str, path: str, who: str = "default", **options: Any) -> Any:
        return client.request(method, path, headers={"Authorization": f"Bearer {who}"}, **options)

    return call


def job(small: SmallStore, name: str = "a", **fields: Any) -> dict[str, Any]:
    given = {"portrait": small.uri("in/ann.png"), "audio": small.uri("in/ann.wav")}
    return {**given, "output": small.uri(f"out/{name}.mp4"), **fields}


def test_a_job_is_submitted_found_again_and_followed(small: SmallStore, call: Any) -> None:
    made = call("POST", "/v1/jobs", json=job(small, labels={"team": "x"}))
    assert made.status_code == 201
    entered = made.json()
    assert (entered["created"], entered["state"]) == (True, "queued")
    again = call("POST", "/v1/jobs", json=job(small, labels={"team": "x"}))
    assert (again.status_code, again.json()["id"], again.json()["created"]) == (200, entered["id"], False)
    small.work()
    shown = call("GET", f"/v1/jobs/{entered['id']}").json()
    assert shown["state"] == "published"
    assert [event["kind"] for event in shown["log"]] == ["claimed", "done", "published"]
    assert shown["job"]["labels"] == {"team": "x"}
    assert sum(shown["busy_s"].values()) > 0


def test_another_job_for_the_same_is_made_when_asked_for(small: SmallStore, call: Any) -> None:
    first = call("POST", "/v1/jobs", json=job(small, if_exists="overwrite")).json()
    second = call("POST", "/v1/jobs?new=true", json=job(small, if_exists="overwrite"))
    assert (second.status_code, second.json()["id"] == first["id"]) == (201, False)


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"controls": {"steps": 0}}, 422, "controls.steps"),
        ({"outptu": "x"}, 422, "outptu"),
        ({"audio": "in/ann.wav"}, 422, "relative"),
        ({"audio": "/etc/passwd"}, 403, "audio is '/etc/passwd'"),
        ({"output": "s3://elsewhere/a.mp4"}, 403, "output"),
        ({"model": "dmeo"}, 422, "dmeo"),
    ],
)
def test_refusals_are_told_as_everywhere_else(
    small: SmallStore, call: Any, change: dict[str, Any], status: int, says: str
) -> None:
    answer = call("POST", "/v1/jobs", json=job(small, **change))
    assert answer.status_code == status
    assert says in answer.json()["error"]
    assert set(answer.json()) == {"error", "fix", "request_id"}


def test_missing_and_contradicting_are_told_apart(small: SmallStore, call: Any) -> None:
    assert call("POST", "/v1/jobs", json=job(small, audio=small.uri("in/none.wav"))).status_code == 404
    assert call("POST", "/v1/jobs", json=job(small, key="k")).status_code == 201
    assert call("POST", "/v1/jobs", json=job(small, key="k", priority=3)).status_code == 409
    assert call("POST", "/v1/jobs", json=job(small, "b", portrait_etag="x")).status_code == 409


def test_nobody_reaches_another_tenants_jobs(small: SmallStore, call: Any) -> None:
    id = call("POST", "/v1/jobs", json=job(small)).json()["id"]
    assert call("GET", "/v1/jobs", who="other").json() == []
    assert call("GET", f"/v1/jobs/{id}", who="other").status_code == 404
    for path in ("cancel", "suspend", "resume", "retry"):
        assert call("POST", f"/v1/jobs/{id}/{path}", who="other").status_code == 404
    assert call("POST", f"/v1/jobs/{id}/priority", who="other", json={"priority": 1}).status_code == 404
    assert small.kinds(JobRef("default", id)) == []
    assert small.keys(f"jobs/default/{id}/wishes") == []
    taken = call("POST", "/v1/jobs", who="other", json=job(small))
    assert taken.status_code == 409
    assert id not in taken.text


def test_tokens_and_scopes_are_asked_for(small: SmallStore, call: Any) -> None:
    assert call("GET", "/v1/jobs", who="wrong").status_code == 401
    assert call("GET", "/v1/jobs", who="scraper").status_code == 403
    unknown = call("POST", "/v1/jobs", who="unknown", json=job(small))
    assert unknown.status_code == 403
    assert "not known" in unknown.json()["error"]


def test_jobs_are_listed_by_state_label_and_text(small: SmallStore, call: Any) -> None:
    ids = [
        call("POST", "/v1/jobs", json=job(small, name, labels={"n": name})).json()["id"]
        for name in ("a", "b", "c")
    ]
    call("POST", f"/v1/jobs/{ids[2]}/cancel")

    def listed(query: str) -> list[str]:
        return [found["id"] for found in call("GET", f"/v1/jobs?{query}").json()]

    assert sorted(listed("")) == sorted(ids)
    assert listed("state=cancelled") == [ids[2]]
    assert sorted(listed("state=cancelled&state=queued")) == sorted(ids)
    assert listed("label=n%3Db") == [ids[1]]
    assert listed("text=out/a.mp4") == [ids[0]]
    assert len(listed("limit=2")) == 2
    for wrong in ("state=odd", "label=odd", "limit=0"):
        assert call("GET", f"/v1/jobs?{wrong}").status_code == 422


def test_jobs_are_steered(small: SmallStore, call: Any) -> None:
    id = call("POST", "/v1/jobs", json=job(small)).json()["id"]

    def state(path: str, **options: Any) -> Any:
        answer = call("POST", f"/v1/jobs/{id}/{path}", **options)
        return answer.json().get("state", answer.status_code)

    assert call("POST", f"/v1/jobs/{id}/priority", json={"priority": 7}).json()["priority"] == 7
    assert state("priority", json={"priority": 5000}) == 422
    assert [state(path) for path in ("suspend", "resume", "cancel", "retry")] == [
        "suspended", "queued", "cancelled", "queued"
    ]  # fmt: skip
    small.work()
    assert state("cancel") == 409
    by = {event["by"] for event in call("GET", f"/v1/jobs/{id}").json()["log"]}
    assert "api.the-default-team" in by


@pytest.mark.parametrize("id", ["x", "..", "F" * 32, "a" * 31])
def test_what_is_no_id_is_refused(call: Any, id: str) -> None:
    assert call("GET", f"/v1/jobs/{id}").status_code in (404, 422)
    assert call("GET", f"/v1/jobs/{'0' * 32}").status_code == 404


def test_openapi_shows_examples_of_jobs(call: Any) -> None:
    schema = call("GET", "/openapi.json").json()
    post = schema["paths"]["/v1/jobs"]["post"]
    assert set(post["requestBody"]["content"]["application/json"]["examples"]) == {"plain", "more"}
    assert {"200", "201", "401", "403", "404", "409", "422", "503"} <= set(post["responses"])
    ids = [method["operationId"] for path in schema["paths"].values() for method in path.values()]
    assert len(ids) == len(set(ids))
    assert "/v1/jobs/{id}/retry" in schema["paths"]
