"""The jobs page over a real gateway: what it serves, to whom, and what its buttons do."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from ifmdm_core.errors import BadInput
from jobs import steer
from jobs.listing import Which
from jobs.names import JobRef
from jobs.page import add_jobs_page
from jobs.page.sights import Sights
from tests.jobs.small_store import SmallStore
from tests.jobs.test_fsck import everything
from tests.serve.gateways import Gateways

GROUPS = {"queued": 2, "running": 1, "published": 1, "failed": 1, "cancelled": 1, "suspended": 1}


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Iterator[Gateways]:
    made = Gateways(tmp_path_factory.mktemp("gateways"), tiny_bundle)
    yield made
    made.close()


@pytest.fixture(scope="module", params=["folder", "s3"])
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SmallStore:
    """A job in every state, and one of another tenant."""
    folder = tmp_path_factory.mktemp("page")
    if request.param == "folder":
        small = SmallStore(folder / "store")
    else:
        small = SmallStore(f"s3://renders/{folder.name}", request.getfixturevalue("s3_config"))
    small.s3 = request.getfixturevalue("s3_config") if request.param == "s3" else None  # type: ignore[attr-defined]
    small.let_in("acme")
    everything(small)
    small.submit("theirs", tenant="acme", labels={"team": "red"})
    return small


@pytest.fixture(scope="module")
def served(small: SmallStore, gateways: Gateways) -> tuple[str, dict[str, str]]:
    """A gateway with the page, and its tokens."""
    path, tokens = gateways.tokens(default={}, acme={}, boss={"scopes": ["admin"]})
    add = partial(add_jobs_page, root=str(small.storage.root), s3=small.s3)  # type: ignore[attr-defined]
    pickle.loads(pickle.dumps(add))  # replicas get it so
    return gateways.start(f"gateway.tokens={path}", pages=(add,)).url, tokens


def client(served: tuple[str, dict[str, str]], name: str) -> httpx.Client:
    url, tokens = served
    return httpx.Client(base_url=url, cookies={"ifmdm_token": tokens[name]}, timeout=30)


@pytest.fixture
def http(served: tuple[str, dict[str, str]]) -> Iterator[httpx.Client]:
    """Tenant `default`."""
    with client(served, "default") as made:
        yield made


def ref_of(http: httpx.Client, state: str) -> dict[str, Any]:
    return http.get("/jobs/table", params={"state": state}).json()["jobs"][0]  # type: ignore[no-any-return]


def test_the_page_loads_nothing_from_elsewhere(http: httpx.Client) -> None:
    page = http.get("/jobs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    for name in ("page.js", "page.css"):
        assert f"/jobs/static/{name}" in page.text
        assert http.get(f"/jobs/static/{name}").status_code == 200
    assert "http://" not in page.text + http.get("/jobs/static/page.js").text
    assert "innerHTML" not in http.get("/jobs/static/page.js").text
    assert http.get("/jobs/static/..%2froutes.py").status_code == 404
    assert 'href="/studio/"' in page.text
    assert http.get("/jobs/").headers["location"] == "/jobs"


def test_people_without_a_token_are_led_to_the_login(served: tuple[str, dict[str, str]]) -> None:
    with httpx.Client(base_url=served[0]) as stranger:
        led = stranger.get("/jobs", headers={"Accept": "text/html"})
        assert (led.status_code, led.headers["location"]) == (303, "/login?next=/jobs")
        assert stranger.get("/jobs/table").status_code == 401
        assert stranger.post(f"/jobs/do/cancel/default/{'0' * 32}").status_code == 401


def test_the_table_shows_the_tenants_jobs_and_filters_them(http: httpx.Client) -> None:
    table = http.get("/jobs/table").json()
    assert len(table["jobs"]) == 8
    assert table["tenants"] is None
    assert table["waiting"] == 1
    for state, count in GROUPS.items():
        assert len(http.get("/jobs/table", params={"state": state}).json()["jobs"]) == count, state
    assert [job["output"][-10:] for job in http.get("/jobs/table?text=failed").json()["jobs"]] == [
        "failed.mp4"
    ]
    limited = http.get("/jobs/table?limit=3").json()
    assert (len(limited["jobs"]), limited["more"]) == (3, True)
    assert http.get("/jobs/table?label=team").status_code == 422
    assert http.get("/jobs/table?state=asleep").status_code == 422


def test_others_jobs_are_nobody_elses_business(
    served: tuple[str, dict[str, str]], http: httpx.Client, small: SmallStore
) -> None:
    mine = ref_of(http, "published")
    assert http.get("/jobs/table?tenant=acme").status_code == 403
    with client(served, "acme") as other, client(served, "boss") as boss:
        (theirs,) = other.get("/jobs/table").json()["jobs"]
        assert [job["tenant"] for job in other.get("/jobs/table?label=team=red").json()["jobs"]] == ["acme"]
        for path in ("one", "log", "video"):
            end = "" if path == "one" else "/1"
            assert other.get(f"/jobs/{path}/default/{mine['id']}{end}").status_code == 404
        assert other.post(f"/jobs/do/cancel/default/{ref_of(http, 'queued')['id']}").status_code == 404
        table = boss.get("/jobs/table").json()
        assert table["tenants"] == ["acme", "default"]
        assert len(table["jobs"]) == 9
        assert boss.get("/jobs/table?tenant=acme").json()["jobs"][0]["id"] == theirs["id"]


def test_one_job_with_its_life_video_and_log(http: httpx.Client, small: SmallStore) -> None:
    row = ref_of(http, "published")
    job = http.get(f"/jobs/one/default/{row['id']}").json()
    assert [moment["kind"] for moment in job["timeline"]] == ["submitted", "claimed", "done", "published"]
    assert (job["watchable"], job["logs"]) == (True, [1])
    video = http.get(f"/jobs/video/default/{row['id']}/1")
    assert video.headers["content-type"] == "video/mp4"
    assert video.content == small.storage.get("out/published.mp4")
    part = http.get(f"/jobs/video/default/{row['id']}/1", headers={"Range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, video.content[2:6])
    assert [line["event"] for line in http.get(f"/jobs/log/default/{row['id']}/1").json()] == [
        "began",
        "decoded",
    ]
    assert http.get(f"/jobs/log/default/{row['id']}/9").json() == []
    assert http.get(f"/jobs/video/default/{row['id']}/9").status_code == 404
    assert http.get(f"/jobs/one/default/{'0' * 32}").status_code == 404
    assert http.get(f"/jobs/one/default/{'x' * 32}").status_code == 422


def test_a_waiting_job_says_why(http: httpx.Client) -> None:
    row = ref_of(http, "queued")
    why = http.get(f"/jobs/one/default/{row['id']}").json()["why"]
    assert any("worker" in reason["what"] for reason in why)


def test_buttons_do_what_they_say_and_refusals_are_told(http: httpx.Client, small: SmallStore) -> None:
    ref = small.submit("button")
    assert http.post(f"/jobs/do/suspend/default/{ref.id}").json()["state"] == "suspended"
    assert http.post(f"/jobs/do/resume/default/{ref.id}").json()["state"] == "queued"
    assert http.post(f"/jobs/do/cancel/default/{ref.id}").json()["state"] == "cancelled"
    refused = http.post(f"/jobs/do/suspend/default/{ref.id}")
    assert refused.status_code == 409
    assert refused.json()["fix"] == "it can be retried"
    assert http.post(f"/jobs/do/retry/default/{ref.id}").json()["state"] == "queued"
    assert "page.default" in small.store.log(ref)[-1].by
    assert http.post(f"/jobs/do/explode/default/{ref.id}").status_code == 422
    foreign = {"Origin": "https://elsewhere.example"}
    assert http.post(f"/jobs/do/cancel/default/{ref.id}", headers=foreign).status_code == 403
    assert small.state(ref) == "queued"
    steer.stop(small.store, ref, "cancel")


def test_a_look_costs_little_when_many_look(tmp_path: Path) -> None:
    small = SmallStore(tmp_path / "store")
    small.renderer.faults = lambda task: BadInput("no face")
    for number in range(5):
        small.submit(f"{number}")
    small.work()
    reads: list[str] = []
    get = small.storage.get

    def counted(key: str) -> bytes:
        reads.append(key)
        return get(key)

    small.storage.get = counted  # type: ignore[method-assign]
    sights = Sights(small.storage, small.clock)
    first = sights.table(Which(), 50)
    needed = len(reads)
    assert sights.table(Which(), 50) == first
    assert len(reads) == needed  # just read
    small.clock.passed += 5
    sights.table(Which(), 50)
    assert len(reads) == needed  # jobs that rest are not read again
    ref = JobRef("default", first["jobs"][0]["id"])
    steer.retry(small.store, ref)
    sights.forget()
    assert {job["state"] for job in sights.table(Which(), 50)["jobs"]} == {"failed", "queued"}
