"""Dashboard and alerts: as the code makes them now, of figures and labels that exist, each alert with its runbook."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from ifmdm_core.errors import BadInput, IfmdmError
from infra.grafana import queries
from infra.grafana.__main__ import files
from infra.grafana.alerts import ALERTS, OURS
from infra.grafana.dashboard import ROWS
from infra.grafana.queries import METRICS
from serve.metrics import outcome_of
from serve.protection.replies import REASONS
from tests.docs.documents import read as read_guide

ROOT = Path(__file__).parents[3]
EXPRESSIONS = {
    **{alert.name: alert.expression for alert in ALERTS},
    **{
        f"{panel.title} {number}": expression
        for _, row in ROWS
        for panel in row
        for number, (expression, _) in enumerate(panel.lines)
    },
}
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
SERIES = {
    spec.name + suffix: {*spec.labels, "gateway", *(["le"] if suffix == "_bucket" else [])}
    for spec in METRICS.values()
    for suffix in SUFFIXES[spec.kind]
}


def test_the_files_are_what_the_code_makes() -> None:
    assert read_guide("docs/kubernetes.md").block("infra.grafana").text.split() == [
        "python",
        "-m",
        "infra.grafana",
    ]
    for path, text in files().items():
        assert path.read_text() == text, f"{path.name} is old: python -m infra.grafana"


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for name in ("expr", "lhs", "rhs", "args", "vector_selector", "vs", "param"):
        inner = getattr(node, name, None)
        for each in inner if isinstance(inner, list) else [inner]:
            if each is not None and not isinstance(each, (str, int, float)):
                yield from _nodes(each)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_asks_for_what_there_is(name: str) -> None:
    nodes = list(_nodes(promql_parser.parse(EXPRESSIONS[name])))
    asked = [node for node in nodes if isinstance(node, promql_parser.VectorSelector)]
    assert len(asked) == EXPRESSIONS[name].count("ifmdm_")  # the walk has met every one of them
    for selector in asked:
        assert selector.name in SERIES
        for matcher in selector.matchers.matchers:
            assert matcher.name in SERIES[selector.name]
    common = set.intersection(*(SERIES[selector.name] for selector in asked))
    for node in nodes:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            assert set(node.modifier.labels) <= common


def test_labels_are_compared_with_values_that_occur() -> None:
    ends = {outcome_of(error) for error in (RuntimeError(), *(kind("") for kind in _errors()))}
    assert set(OURS.removeprefix("~").split("|")) <= ends
    assert "busy" in REASONS.values()


def _errors(kind: type[IfmdmError] = IfmdmError) -> list[type[IfmdmError]]:
    return [kind, *(each for inner in kind.__subclasses__() for each in _errors(inner))]


def test_every_figure_is_on_the_dashboard_or_in_an_alert() -> None:
    text = "\n".join(EXPRESSIONS.values())
    assert [name for name in METRICS if name not in text] == []


def test_every_alert_has_a_runbook_with_its_three_parts() -> None:
    sections = dict(
        re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", (ROOT / "docs/runbooks.md").read_text(), re.M | re.S)
    )
    anchors = {name.lower(): body for name, body in sections.items()}
    for rule in yaml.safe_load((ROOT / "infra/grafana/alerts.yaml").read_text())["groups"][0]["rules"]:
        path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert (ROOT / path).is_file()
        for part in ("**Meaning**", "**Look**", "**Fix**"):
            assert part in anchors[anchor], (anchor, part)
    assert {alert.name for alert in ALERTS} <= set(sections)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: queries.rate("ifmdm_render_total"), "ifmdm_renders_total"),
        (lambda: queries.rate("ifmdm_renders_total", ("outcom",)), "outcome"),
        (lambda: queries.series("ifmdm_rejections_total", reson="busy"), "reason"),
        (lambda: queries.rate("ifmdm_jobs_waiting"), "is a gauge"),
        (lambda: queries.quantile(0.5, "ifmdm_renders_total"), "is a counter"),
    ],
)
def test_what_does_not_exist_cannot_be_asked_for(make: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        make()
