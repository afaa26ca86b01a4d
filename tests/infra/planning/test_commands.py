"""`ifmdm plan`, `ifmdm plan rates` and `ifmdm simulate` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra import cli
from infra.planning.rates import Rates, load_rates

DOCS = Path(__file__).parents[3] / "docs"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    out, err = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, out, err


def test_a_day_is_planned_for_people_and_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(
        capsys, "plan", "--renders-per-day", "1e6", "--speech-seconds", "10", "--price", "0.05"
    )
    assert code == 0
    assert out.startswith("rates: docs/bench.json")
    assert "money for 1,000 renders" in out
    assert " = " not in out
    code, out, _ = run(capsys, "plan", "--renders-per-day", "1e6", "--explain")
    assert "= 1,000,000 a day / 86,400 s" in out
    code, out, _ = run(capsys, "plan", "--renders-per-day", "1e6", "--hours-of-data", "100", "--json")
    report = json.loads(out)
    assert {"name", "value", "unit", "formula"} == set(report["figures"][0])
    assert report["load"]["renders_per_day"] == 1e6
    assert report["rates"]["device"] == "cpu"


def test_a_makespan_from_a_file_of_rates(
    rates: Rates, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates.save(tmp_path / "rates.json")
    (tmp_path / "rows.csv").write_text("speech_seconds\n" + "2\n" * 5)
    options = ("--rates", str(tmp_path / "rates.json"), "--slots", "1")
    code, out, _ = run(
        capsys, "plan", "--makespan", "--jobs-manifest", str(tmp_path / "rows.csv"), *options, "--json"
    )
    report = json.loads(out)
    assert (code, report["jobs"], report["slots"]) == (0, 5, 1)
    code, out, err = run(capsys, "plan", "--makespan", "--jobs", "5", "--speech-seconds", "2", *options)
    assert f"5 jobs in {report['seconds']:.1f} s, by 1 x 1 slots" in out
    assert not err


def test_rates_measured_with_other_slots_are_said_to_be(
    rates: Rates, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates.model_copy(update={"slots": 4}).save(tmp_path / "rates.json")
    _, _, err = run(capsys, "plan", "--makespan", "--jobs", "1", "--rates", str(tmp_path / "rates.json"))
    assert "measured with 4 jobs at once, not 2" in err


def test_rates_from_a_bench_with_datasets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "rates.json"
    bench = ("--from-bench", str(DOCS / "bench.json"), "--datasets", str(DOCS / "bench-datasets.json"))
    code, _, _ = run(capsys, "plan", "rates", *bench, "-o", str(output), "--device", "NVIDIA L4")
    assert code == 0
    found = load_rates(str(output))
    assert found.on_gpu
    assert found.extraction is not None
    code, out, _ = run(capsys, "plan", "--renders-per-day", "1000", "--rates", str(output))
    assert "GPUs" in out


def test_a_short_day_is_simulated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("--set", "hours=0.05", "--set", "cut=0.01", "--set", "seed=1")
    output, picture = tmp_path / "day.json", tmp_path / "day.png"
    code, out, _ = run(capsys, "simulate", *settings, "-o", str(output), "--picture", str(picture))
    assert code == 0
    assert "jobs published in" in out
    found = json.loads(output.read_text())
    assert found["scenario"]["seed"] == 1
    assert len(found["series"]) >= 288
    assert picture.stat().st_size > 10_000


def test_one_setting_leaves_the_others_of_its_group(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "day.yaml").write_text("hours: 3\ndecoder: {scaling: {most: 50}}\n")
    setting = ("--set", "decoder.scaling.target=2")
    _, out, _ = run(capsys, "simulate", str(tmp_path / "day.yaml"), *setting, "--dry-run")
    _, default, _ = run(capsys, "simulate", "--dry-run")
    found, before = json.loads(out), json.loads(default)
    assert (found["hours"], found["decoder"]["scaling"]["most"], found["decoder"]["scaling"]["target"]) == (
        3,
        50,
        2,
    )
    assert found["decoder"]["scaling"]["least"] == before["decoder"]["scaling"]["least"] == 20
    assert found["motion"] == before["motion"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["plan"], 2, "give --renders-per-day N, or --makespan"),
        (["plan", "--makespan"], 2, "give --jobs-manifest FILE, or --jobs N"),
        (["plan", "--renders-per-day", "-5"], 2, "renders_per_day is -5"),
        (["plan", "--renders-per-day", "5", "--rates", "none.json"], 3, "none.json"),
        (
            ["plan", "--makespan", "--jobs", "1", "--replicas", "painter=2"],
            2,
            "speech=N, motion=N or decoder=N",
        ),
        (["plan", "rates"], 2, "give --from-jobs ROOT, or --from-bench FILE"),
        (["simulate", "--set", "hourz=1"], 2, "did you mean 'hours'"),
        (["simulate", "--set", "decoder.scaling.most=0"], 2, "decoder.scaling"),
    ],
)
def test_what_is_wrong_is_said(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _, err = run(capsys, *arguments)
    assert (found, says in err) == (code, True), err
