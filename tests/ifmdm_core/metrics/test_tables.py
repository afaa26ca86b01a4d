"""Tables as text, markdown and JSON."""

import io

import pytest
from rich.console import Console

from ifmdm_core.metrics.tables import EvaluationReport, Table


@pytest.fixture
def report():
    table = Table(title="1. Lips", columns=["row", "r"], note="how")
    table.add("ours", 0.456)
    table.add("still", None)
    table.gate("r above 0", 0.456, True)
    table.gate("lag", 3, False)
    table.gate("FID", "no weights", None)
    return EvaluationReport(bundle="demo", digest="ab" * 32, clips={"grid": 2}, seconds=3, tables=[table])


def test_markdown_holds_rows_and_gates(report):
    text = report.markdown()
    assert "| ours | 0.46 |" in text
    assert "| still | - |" in text
    assert "- r above 0: 0.46: **met**" in text
    assert "- lag: 3: **NOT met**" in text
    assert "- FID: no weights: **not available**" in text
    assert "2 grid" in text


def test_json_comes_back_the_same(report):
    assert EvaluationReport.model_validate_json(report.model_dump_json()) == report


def test_terminal_shows_everything(report):
    out = io.StringIO()
    report.print(Console(file=out, width=100))
    for part in ("1. Lips", "ours", "0.46", "NOT met", "not available"):
        assert part in out.getvalue()


def test_a_row_must_fit_its_columns(report):
    with pytest.raises(AssertionError):
        report.tables[0].add("short")
