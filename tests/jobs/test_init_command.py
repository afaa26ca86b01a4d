"""`ifmdm jobs init`, `doctor` and `schema`, as they are typed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ifmdm_core.samples import DEMO
from ifmdm_core.storage import S3Config, open_storage
from infra import cli
from tests.fault_proxy import FaultProxy, Strip

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Typed:
    monkeypatch.chdir(tmp_path)

    def typed(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(["jobs", *arguments])
        out, err = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, out, err

    return typed


def policy(root: Path | str, tenant: str = "default", s3: S3Config | None = None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(open_storage(root, s3).get(f"tenants/{tenant}.json"))
    return found


def test_the_first_time_makes_a_store_that_the_default_tenant_can_use(typed: Typed, tmp_path: Path) -> None:
    code, out, _ = typed("init", "store")
    assert (code, "is a job store now" in out) == (0, True)
    found = policy(tmp_path / "store")
    assert found["inputs"] == found["outputs"] == [str(tmp_path), str(tmp_path / "store")]
    digest = hashlib.sha256((DEMO / "bundle.json").read_bytes()).hexdigest()
    assert found["models"] == {"demo": {"uri": "demo", "sha256": digest}}
    before = (tmp_path / "store" / "_store.json").read_bytes()
    code, out, _ = typed("init", "store", "--json")
    values = json.loads(out)
    assert (code, values["made"], values["changed"]) == (0, False, False)
    assert (tmp_path / "store" / "_store.json").read_bytes() == before


def test_in_a_bucket_it_may_use_that_bucket(typed: Typed, tmp_path: Path, s3_config: S3Config) -> None:
    root = f"s3://renders/{tmp_path.name}"
    assert typed("init", root, "--endpoint", str(s3_config.endpoint))[0] == 0
    assert policy(root, s3=s3_config)["outputs"] == ["s3://renders"]
    assert typed("doctor", "--root", root, "--endpoint", str(s3_config.endpoint))[0] == 0


def test_other_tenants_have_what_they_are_given(typed: Typed, tmp_path: Path) -> None:
    typed("init", "store", "--tenant", "film")
    own = [str(tmp_path / "store" / folder / "film") for folder in ("uploads", "inbox")]
    assert (policy("store", "film")["inputs"], policy("store", "film")["outputs"]) == (own, [])
    typed(
        "init",
        "store",
        "--tenant",
        "film",
        "--allow-output",
        "out",
        "--allow-input",
        "s3://bucket/in",
        "--cap",
        "5",
    )
    typed("init", "store", "--tenant", "film", "--allow-output", "s3://bucket/out", "--weight", "2")
    found = policy("store", "film")
    assert found["inputs"] == [*own, "s3://bucket/in"]
    assert found["outputs"] == [str(tmp_path / "out"), "s3://bucket/out"]
    assert (found["cap"], found["weight"]) == (5, 2.0)
    typed(
        "init",
        "store",
        "--tenant",
        "ads",
        "--allow-input",
        "s3://bucket/ads",
        "--webhook-host",
        "hooks.example.com",
    )
    found = policy("store", "ads")
    assert found["inputs"] == ["s3://bucket/ads", *(place.replace("film", "ads") for place in own)]
    assert found["webhook_hosts"] == ["hooks.example.com"]


def test_models_are_pinned(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads" / "bundle.json").write_text("{}")
    assert (
        typed("init", "store", "--model", "heads=heads", "--model", f"other=s3://bucket/m@{'a' * 64}")[0] == 0
    )
    models = policy("store")["models"]
    assert models["heads"] == {"uri": str(tmp_path / "heads"), "sha256": hashlib.sha256(b"{}").hexdigest()}
    assert models["other"] == {"uri": "s3://bucket/m", "sha256": "a" * 64}
    typed("init", "store", "--model", "demo=demo")
    assert set(policy("store")["models"]) == {"heads", "other", "demo"}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--model", "heads"), 2, "write NAME=URI"),
        (("--model", "heads=x@abc"), 2, "is no digest"),
        (("--model", "heads=nowhere"), 3, "no bundle at"),
        (("--model", f"demo=demo@{'0' * 64}"), 5, "the demo of this version"),
        (("--weight", "0"), 2, "weight"),
        (("--cap", "-1"), 2, "--cap"),
        (("--allow-output", "http://x/"), 6, "http"),
        (("--tenant", "../x"), 2, "is no name"),
    ],
)
def test_what_is_wrong_changes_nothing(
    typed: Typed, tmp_path: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    found, _, err = typed("init", "store", *arguments)
    assert (found, says in err) == (code, True), err
    assert not (tmp_path / "store" / "_store.json").exists()


def test_a_damaged_store_is_repaired_on_request_only(typed: Typed, tmp_path: Path) -> None:
    typed("init", "store")
    (tmp_path / "store" / "_store.json").write_text("{")
    code, _, err = typed("init", "store")
    assert (code, "--repair" in err) == (5, True)
    assert typed("doctor", "--root", "store")[0] == 3
    assert typed("init", "store", "--repair")[0] == 0
    assert typed("doctor", "--root", "store")[0] == 0
    (tmp_path / "store" / "_store.json").write_text('{"layout": 99}')
    code, _, err = typed("init", "store", "--repair")
    assert (code, "has layout 99" in err) == (6, True)


def test_a_store_that_ignores_preconditions_is_refused(
    typed: Typed, tmp_path: Path, flaky_s3: FaultProxy
) -> None:
    flaky_s3.add(Strip())
    endpoint = str(flaky_s3.config.endpoint)
    code, _, err = typed("init", f"s3://renders/{tmp_path.name}", "--endpoint", endpoint)
    assert code == 6
    assert f"s3://renders/{tmp_path.name}" in err


def findings(out: str) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for each in json.loads(out):
        found.setdefault(each["name"], []).append((each["status"], f"{each['found']} -> {each['fix']}"))
    return found


def test_doctor_finds_what_is_wrong_with_a_fix_each(typed: Typed, tmp_path: Path) -> None:
    assert typed("doctor", "--root", "store")[0] == 3
    typed("init", "store")
    code, out, _ = typed("doctor", "--root", "store", "--json")
    found = findings(out)
    assert code == 0
    assert [status for status, _ in found["guarantees"]] == ["ok"]
    assert found["workers"][0][0] == "warn"
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads" / "bundle.json").write_text("{}")
    typed("init", "store", "--tenant", "film", "--cap", "0", "--model", "heads=heads")
    (tmp_path / "heads" / "bundle.json").write_text("{ }")
    typed("init", "store", "--tenant", "own", "--allow-output", "store/attempts")
    (tmp_path / "store" / "tenants" / "broken.json").write_text('{"capp": 3}')
    code, out, _ = typed("doctor", "--root", "store", "--json")
    found = findings(out)
    assert code == 3
    film = " | ".join(told for _, told in found["tenant film"])
    for part in ("may write nowhere", "its cap is 0", "model heads is pinned to", "pins what is there now"):
        assert part in film
    assert "job store's own 'attempts'" in found["tenant own"][0][1]
    assert found["tenant broken"][0][0] == "fail"
    assert "did you mean 'cap'?" in found["tenant broken"][0][1]


def test_doctor_sees_workers(typed: Typed, tmp_path: Path) -> None:
    from tests.jobs.small_store import SmallStore

    small = SmallStore(tmp_path / "store")
    small.worker("w1").beat()
    assert "1 at work" in typed("doctor", "--root", "store")[1]
    small.grow_older(600, "workers/")
    assert "none: jobs wait" in typed("doctor", "--root", "store")[1]


def test_the_schema_is_one_of_json(typed: Typed) -> None:
    code, out, _ = typed("schema")
    assert (code, json.loads(out)["title"]) == (0, "RenderJob")
