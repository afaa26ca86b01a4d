"""PromQL made of figures that exist: an unknown name, kind or label is an error here, not an empty panel later."""

from __future__ import annotations

from ifmdm_core.errors import BadInput, nearest
from jobs.figures import METRICS as OF_JOBS
from serve.metric_table import METRICS as OF_SERVICE
from serve.metric_table import MetricSpec

METRICS: dict[str, MetricSpec] = {spec.name: spec for spec in (*OF_SERVICE, *OF_JOBS)}
EVERYWHERE = ("gateway",)
"""Labels of every series."""
WINDOW = "5m"
"""Over which rates are taken: gateways behind one address are scraped in turns."""


def series(name: str, suffix: str = "", **where: str) -> str:
    """A figure; `where` compares labels, "~a|b" and "!~a|b" by a regular expression. Raises BadInput."""
    if name not in METRICS:
        raise BadInput(f"no figure is called {name!r}", fix=nearest(name, METRICS))
    _require_labels(METRICS[name], where)
    matchers = ",".join(f"{label}{_operator(value)}" for label, value in where.items())
    return f"{name}{suffix}" + (f"{{{matchers}}}" if matchers else "")


def rate(name: str, by: tuple[str, ...] = (), window: str = WINDOW, **where: str) -> str:
    """A counter's growth a second, summed over everything but `by`. Raises BadInput."""
    text = series(name, **where)
    _require(METRICS[name], "counter", by)
    return f"sum{_by(by)} (rate({text}[{window}]))"


def quantile(q: float, name: str, by: tuple[str, ...] = (), window: str = WINDOW) -> str:
    """A histogram's quantile by labels. Raises BadInput."""
    text = series(name, "_bucket")
    _require(METRICS[name], "histogram", by)
    return f"histogram_quantile({q:g}, sum{_by(('le', *by))} (rate({text}[{window}])))"


def mean(name: str, by: tuple[str, ...] = (), window: str = WINDOW) -> str:
    """A histogram's mean by labels. Raises BadInput."""
    total, count = series(name, "_sum"), series(name, "_count")
    _require(METRICS[name], "histogram", by)
    return f"sum{_by(by)} (rate({total}[{window}])) / sum{_by(by)} (rate({count}[{window}]))"


def total(name: str, by: tuple[str, ...] = ()) -> str:
    """A gauge that each gateway has its share of. Raises BadInput."""
    text = series(name)
    _require(METRICS[name], "gauge", by)
    return f"sum{_by(by)} ({text})"


def told(name: str, by: tuple[str, ...] = ()) -> str:
    """A gauge that every gateway tells alike. Raises BadInput."""
    text = series(name)
    _require(METRICS[name], "gauge", by)
    return f"max{_by(by)} ({text})"


def _require(spec: MetricSpec, kind: str, by: tuple[str, ...]) -> None:
    if spec.kind != kind:
        raise BadInput(f"{spec.name} is a {spec.kind}, not a {kind}")
    _require_labels(spec, [label for label in by if label != "le"])


def _require_labels(spec: MetricSpec, labels: object) -> None:
    valid = (*spec.labels, *EVERYWHERE)
    for label in labels:  # type: ignore[attr-defined]
        if label not in valid:
            raise BadInput(f"{spec.name} has no label {label!r}", fix=nearest(label, valid))


def _operator(value: str) -> str:
    for sign in ("!~", "~"):
        if value.startswith(sign):
            return f'{"=" if sign == "~" else ""}{sign}"{value.removeprefix(sign)}"'
    return f'="{value}"'


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""
