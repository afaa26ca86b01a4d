"""`ifmdm jobs submit`, as it is typed."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ifmdm_core.storage import S3Config
from infra import cli
from jobs.names import JobRef, Later, Marker
from tests.jobs.small_store import SmallStore

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallStore:
    small = SmallStore(tmp_path / "store")
    small.let_in("default", inputs=(str(tmp_path),), outputs=(str(tmp_path),))
    monkeypatch.setenv("IFMDM_JOBS", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ann.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "ann.wav").write_bytes(b"RIFF____WAVE")
    return small


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Typed:
    """Exit code, stdout and stderr of `ifmdm jobs submit …`."""

    def typed(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(["jobs", "submit", *arguments])
        out, err = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, out, err

    return typed


ONE = ("--portrait", "ann.png", "--audio", "ann.wav", "-o", "out/a.mp4")


def test_one_job_by_options(small: SmallStore, typed: Typed) -> None:
    code, out, _ = typed(
        *ONE, "--set", "controls.steps=4", "--label", "team=a", "--priority", "3", "--key", "k", "--json",
        "--deadline", "2100-01-01", "--consent", "form 7",
    )  # fmt: skip
    values = json.loads(out)
    assert (code, values["created"], values["state"]) == (0, True, "queued")
    job = small.store.record(JobRef("default", values["id"])).job
    assert (job.controls.steps, job.labels, job.priority, job.key) == (4, {"team": "a"}, 3, "k")
    assert (job.deadline, job.consent) == (4102444800.0, "form 7")
    code, out, _ = typed(*ONE, "--key", "k", "--priority", "4")
    assert code == 5
    code, out, _ = typed(
        *ONE, "--set", "controls.steps=4", "--label", "team=a", "--priority", "3", "--key", "k", "--deadline",
        "4102444800", "--consent", "form 7",
    )  # fmt: skip
    assert code == 0
    assert "is there already: queued" in out


def test_a_file_of_fields_with_options_over_them(
    small: SmallStore, typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps(
        {"portrait": "ann.png", "audio": "ann.wav", "output": "a.mp4", "controls": {"seed": 5, "steps": 9}}
    )
    (tmp_path / "job.json").write_text(text)
    code, out, _ = typed("job.json", "--set", "controls.steps=2", "--json")
    job = small.store.record(JobRef("default", json.loads(out)["id"])).job
    assert (code, job.controls.seed, job.controls.steps) == (0, 5, 2)
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    code, out, _ = typed("-", "--output", "b.mp4", "--json")
    assert (code, json.loads(out)["output"]) == (0, str(tmp_path / "b.mp4"))


def test_a_job_for_later(small: SmallStore, typed: Typed) -> None:
    assert typed(*ONE, "--not-before", "+2h")[0] == 0
    (key,) = small.keys("later/")
    assert Later.parse(key) is not None


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "nothing to submit"),
        (("--portrait", "ann.png"), 2, "nothing to submit"),
        (("none.json",), 3, "none.json"),
        (("ann.wav",), 2, "is no JSON"),
        ((*ONE, "--set", "contrlos.steps=4"), 2, "did you mean 'controls'?"),
        ((*ONE, "--set", "controls.steps=0"), 2, "controls.steps is 0"),
        ((*ONE, "--deadline", "soon"), 2, "--deadline is 'soon'"),
        ((*ONE, "--deadline", "2001-01-01"), 2, "which has passed"),
        ((*ONE, "--journal", "x"), 2, "--journal does not go with one job"),
        ((*ONE, "--portrait", "nobody.png"), 3, "portrait"),
        ((*ONE, "--output", "/elsewhere/a.mp4"), 4, "output"),
        ((*ONE, "--tenant", "Nobody!"), 2, "is no name"),
        ((*ONE, "--tenant", "nobody"), 4, "ifmdm jobs init --tenant nobody"),
        (("--manifest", "m.csv", "--new"), 2, "--new does not go with --manifest"),
        (("--manifest", "m.csv"), 3, "there is no manifest 'm.csv'"),
        ((*ONE, "--root", "nowhere"), 3, "is no job store"),
    ],
)
def test_what_is_wrong_is_one_line_and_its_exit_code(
    small: SmallStore, typed: Typed, arguments: tuple[str, ...], code: int, says: str
) -> None:
    found, out, err = typed(*arguments)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert says in err
    assert small.keys("jobs/") == []


def test_no_store_is_named(
    small: SmallStore, typed: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("IFMDM_JOBS")
    assert "$IFMDM_JOBS" in typed(*ONE)[2]
    assert typed(*ONE, "--root", str(tmp_path / "store"))[0] == 0


def test_a_dry_run_writes_nothing(small: SmallStore, typed: Typed) -> None:
    before = small.keys("")
    code, out, _ = typed(*ONE, "--dry-run", "--probe")
    assert (code, "can be submitted" in out) == (0, True)
    assert typed(*ONE, "--dry-run", "--audio", "ann.png", "--probe")[0] == 2
    assert small.keys("") == before


def manifest(tmp_path: Path, *rows: str) -> None:
    (tmp_path / "m.csv").write_text("\n".join(["portrait,audio,controls.seed", *rows]) + "\n")


def test_a_manifest_with_defaults_and_a_template(small: SmallStore, typed: Typed, tmp_path: Path) -> None:
    manifest(tmp_path, "ann.png,ann.wav,1", "ann.png,ann.wav,x", "ann.png,none.wav,3", "ann.png,ann.wav,4")
    options = (
        "--manifest",
        "m.csv",
        "--output-template",
        "out/{row}-{portrait.stem}.mp4",
        "--label",
        "team=a",
    )
    code, out, err = typed(*options)
    assert code == 2
    assert out == "4 rows, 2 submitted, 2 refused (see m.csv.rejected.csv)\n"
    assert "line 3: controls.seed is 'x'" in err
    assert "line 4: audio" in err
    markers = [Marker.parse(key) for key in small.keys("queue/")]
    jobs = [small.store.record(marker.job).job for marker in markers if marker is not None]
    assert sorted(job.output for job in jobs) == [str(tmp_path / "out" / f"{n}-ann.mp4") for n in (1, 4)]
    assert {job.labels["team"] for job in jobs} == {"a"}
    code, out, _ = typed(*options, "--json")
    values = json.loads(out)
    assert (code, values["submitted"], values["skipped"], values["rejected"]) == (2, 0, 2, 2)
    assert values["rejects"][0]["field"] == "controls.seed"
    assert (values["journal"], values["report"]) == ("m.csv.submitted.jsonl", "m.csv.rejected.csv")


def test_a_manifest_in_a_bucket(
    tmp_path: Path, typed: Typed, s3_config: S3Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = SmallStore(f"s3://renders/{tmp_path.name}", s3_config)
    monkeypatch.chdir(tmp_path)
    row = f"{small.uri('in/ann.png')},{small.uri('in/ann.wav')},{small.uri('out/a.mp4')}"
    small.storage.put("lists/m.csv", f"portrait,audio,output\n{row}\n".encode())
    options = ("--root", str(small.storage.root), "--endpoint", str(s3_config.endpoint), "--json")
    code, out, _ = typed("--manifest", small.uri("lists/m.csv"), *options)
    assert (code, json.loads(out)["submitted"]) == (0, 1)
    assert (tmp_path / "m.csv.submitted.jsonl").is_file()
    assert typed("--manifest", small.uri("lists/none.csv"), *options)[0] == 3


@pytest.fixture
def at_once(small: SmallStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits has everything rendered meanwhile, and does not wait long."""
    from jobs.clock import SystemClock

    monkeypatch.setattr(SystemClock, "sleep", lambda clock, seconds: small.work())


@pytest.mark.usefixtures("at_once")
def test_waiting_for_one_ends_as_the_job_does(small: SmallStore, typed: Typed, tmp_path: Path) -> None:
    from ifmdm_core.errors import BadInput

    code, out, err = typed(*ONE, "--wait")
    assert (code, out) == (0, f"{tmp_path / 'out' / 'a.mp4'}\n")
    assert "is queued" in err
    small.renderer.faults = lambda task: BadInput("no face in the picture", fix="use another")
    code, out, err = typed(*ONE[:4], "-o", "b.mp4", "--wait")
    assert (code, out) == (2, "")
    assert "is failed: no face in the picture; use another" in err
    code, out, _ = typed(*ONE[:4], "-o", "c.mp4", "--wait", "--json")
    values: dict[str, Any] = json.loads(out)
    assert (code, values["state"], values["error"]["kind"]) == (2, "failed", "BadInput")


@pytest.mark.usefixtures("at_once")
def test_waiting_for_a_manifest_counts_how_its_jobs_ended(
    small: SmallStore, typed: Typed, tmp_path: Path
) -> None:
    from ifmdm_core.errors import BadInput

    manifest(tmp_path, *(f"ann.png,ann.wav,{seed}" for seed in range(5)))
    options = ("--manifest", "m.csv", "--output-template", "out/{row}.mp4", "--wait")
    small.renderer.faults = lambda task: BadInput("no face") if task.controls.seed == 3 else None
    code, out, _ = typed(*options)
    assert (code, out) == (2, "4 published, 1 failed\n")
    code, out, _ = typed(*options, "--json")
    assert (code, json.loads(out)["states"]) == (2, {"published": 4, "failed": 1})


def test_waiting_gives_up_in_time(small: SmallStore, typed: Typed) -> None:
    code, _, err = typed(*ONE, "--wait", "--timeout", "0")
    assert code == 8
    assert "queued" in err
