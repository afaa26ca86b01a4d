"""One dashboard: renders, stages, jobs; each panel a few lines of one unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra.grafana.queries import mean, quantile, rate, told, total

WIDTH, HEIGHT, ACROSS = 8, 7, 3
"""Of a panel in Grafana's grid of 24 columns, and panels in a row."""


@dataclass(frozen=True)
class Panel:
    """One picture."""

    title: str
    unit: str
    """Of Grafana: s, reqps, short, percentunit."""
    lines: tuple[tuple[str, str], ...]
    """(PromQL, legend)"""
    about: str = ""


_STAGE = ("stage",)
ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Renders",
        (
            Panel("Under way", "short", ((total("ifmdm_renders_under_way"), "renders"),)),
            Panel("Ended, by outcome", "reqps", ((rate("ifmdm_renders_total", ("outcome",)), "{{outcome}}"),)),
            Panel("Refused, by reason", "reqps", ((rate("ifmdm_rejections_total", ("reason",)), "{{reason}}"),)),
            Panel(
                "First frame", "s",
                tuple((quantile(q, "ifmdm_render_first_frame_seconds"), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)),
                "From a request fully read to its first chunk.",
            ),
            Panel(
                "Seconds for a second of video", "short",
                tuple((quantile(q, "ifmdm_render_real_time_ratio"), f"p{q * 100:g}") for q in (0.5, 0.9)),
                "Below 1 plays without stalling.",
            ),
            Panel("Video made, seconds a second", "short", ((rate("ifmdm_render_video_seconds_total"), "video"),)),
        ),
    ),
    (
        "Stages",
        (
            Panel("Frames a second", "short", ((rate("ifmdm_stage_frames_total", _STAGE), "{{stage}}"),)),
            Panel(
                "Busy replicas", "short", ((rate("ifmdm_stage_busy_seconds_total", _STAGE), "{{stage}}"),),
                "Working seconds a second.",
            ),
            Panel(
                "Frames a second of one replica", "short",
                ((f"{rate('ifmdm_stage_frames_total', _STAGE)} / {rate('ifmdm_stage_busy_seconds_total', _STAGE)}",
                  "{{stage}}"),),
                "What a replica makes while it works: for sizing.",
            ),
            Panel(
                "Wait in the replica, p95", "s",
                ((quantile(0.95, "ifmdm_stage_queue_seconds", _STAGE), "{{stage}}"),),
            ),
            Panel(
                "Latency of calls, p95", "s",
                ((quantile(0.95, "ifmdm_stage_latency_seconds", _STAGE), "{{stage}}"),),
            ),
            Panel("Calls in a batch, mean", "short", ((mean("ifmdm_stage_batch_calls", _STAGE), "{{stage}}"),)),
            Panel("Calls not answered yet", "short", ((total("ifmdm_stage_pending_calls", _STAGE), "{{stage}}"),)),
            Panel(
                "Calls failed and made again", "reqps",
                ((rate("ifmdm_stage_calls_total", ("stage", "outcome"), outcome="!~ok"), "{{stage}} {{outcome}}"),
                 (rate("ifmdm_stage_retries_total", _STAGE), "{{stage}} again")),
            ),
            Panel(
                "Portraits at hand", "percentunit",
                ((f"{rate('ifmdm_appearance_cache_lookups_total', result='hit')}"
                  f" / {rate('ifmdm_appearance_cache_lookups_total')}", "hits"),),
            ),
        ),
    ),
    (
        "Jobs",
        (
            Panel("Waiting", "short", ((told("ifmdm_jobs_waiting", ("tenant",)), "{{tenant}}"),)),
            Panel("Longest wait", "s", ((told("ifmdm_jobs_oldest_wait_seconds", ("tenant",)), "{{tenant}}"),)),
            Panel(
                "Running, of slots", "short",
                ((told("ifmdm_jobs_running", ("tenant",)), "{{tenant}}"), (told("ifmdm_job_slots"), "slots")),
            ),
            Panel("Workers", "short", ((told("ifmdm_job_workers"), "alive"),)),
            Panel("Given up, today and yesterday", "short", ((told("ifmdm_jobs_dead", ("tenant",)), "{{tenant}}"),)),
            Panel("Portraits registered", "reqps", ((rate("ifmdm_identities_total", ("result",)), "{{result}}"),)),
        ),
    ),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """As Grafana imports it; the data source is asked for there."""
    panels: list[dict[str, Any]] = []
    down = 0
    for title, row in ROWS:
        place = {"x": 0, "y": down, "w": 24, "h": 1}
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": title, "gridPos": place, "collapsed": False}
        )
        down += 1
        for number, panel in enumerate(row):
            place = {
                "x": number % ACROSS * WIDTH,
                "y": down + number // ACROSS * HEIGHT,
                "w": WIDTH,
                "h": HEIGHT,
            }
            panels.append(_panel(panel, len(panels) + 1, place))
        down += -(-len(row) // ACROSS) * HEIGHT
    return {
        "uid": "ifmdm",
        "title": "ifmdm",
        "tags": ["ifmdm"],
        "schemaVersion": 41,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {
            "list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "panels": panels,
    }


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "gridPos": place,
        "datasource": source,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": source, "expr": expression, "legendFormat": legend}
            for index, (expression, legend) in enumerate(panel.lines)
        ],
    }
