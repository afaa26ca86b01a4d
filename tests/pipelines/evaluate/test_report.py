"""The file that promotion gates read."""

import json

import pytest

from ifmdm_core.errors import BadInput, Conflict, NotFound, Unsupported
from ifmdm_core.metrics.tables import Figure, Table
from pipelines.evaluate.report import EvaluationReport, HeldOut, RowFigures, read_report

HELD_OUT = HeldOut(uri="heldout", dataset="d1", settings="s1", clips={"grid": 2})


@pytest.fixture
def report():
    table = Table(title="7. Seams", columns=["measure", "value"])
    table.add("ratio", 1.02)
    s = Figure(value=0.4, low=0.3, high=0.5, count=2)
    return EvaluationReport(
        bundle="demo", bundle_digest="ab" * 32, created="2026-01-01T00:00:00+00:00", seconds=1.0, held_out=HELD_OUT,
        settings={"rows": ["ours"]}, figures={"S": s}, rows=[RowFigures(table=1, row="ours", figures={"S": s})],
        tables=[table],
    )  # fmt: skip


def test_a_report_survives_its_file(report, tmp_path):
    report.save(tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report
    assert read_report((tmp_path / "report.json").read_bytes()) == report
    assert "| ratio | 1.02 |" in report.markdown()
    assert "S 0.40 [0.30, 0.50]" in repr(report)


def test_what_is_no_report_is_refused_by_name(report, tmp_path):
    with pytest.raises(NotFound, match=r"none\.json"):
        read_report(tmp_path / "none.json")
    record = json.loads(report.model_dump_json())
    (tmp_path / "bad.json").write_text(json.dumps({**record, "figures": {"S": {"value": 1}}}))
    with pytest.raises(BadInput, match=r"bad\.json.*figures\.S\.low"):
        read_report(tmp_path / "bad.json")
    with pytest.raises(Unsupported, match="format 9"):
        read_report(json.dumps({**record, "format": 9}).encode())


def test_only_equal_measurements_are_compared():
    HELD_OUT.require_same(HELD_OUT.model_copy(update={"uri": "a copy elsewhere"}))
    for part in ("dataset", "settings"):
        with pytest.raises(Conflict, match=rf"{part}: {part[0]}1 and other"):
            HELD_OUT.require_same(HELD_OUT.model_copy(update={part: "other"}))


@pytest.mark.parametrize(
    ("better", "champion", "same", "worse"),
    [
        ("higher", (0.4, 0.3, 0.5), 0.31, 0.29),
        ("lower", (50.0, 45.0, 55.0), 54.0, 56.0),
        ("near 1", (1.0, 0.9, 1.1), 0.91, 0.85),
        ("near 1", (1.0, 0.9, 1.1), 1.1, 1.2),
    ],
)
def test_worse_means_beyond_the_bad_end_of_the_champions_interval(better, champion, same, worse):
    best = Figure.of(champion, 5, better)
    assert best is not None
    for value, expected in ((same, False), (worse, True), (champion[0], False)):
        figure = Figure.of((value, value, value), 5, better)
        assert figure.worse_than(best) is expected


def test_a_figure_that_is_no_number_is_none():
    assert Figure.of((1.0, float("nan"), 2.0), 3) is None
