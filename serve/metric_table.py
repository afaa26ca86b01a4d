"""Every figure the gateway publishes: name with its unit, kind, labels, buckets; dashboards are made from it.

Names follow Prometheus: seconds and ratios as base units, `_total` on counters. Every series also carries `gateway`,
the replica that counted it: a scrape reaches one replica, so sum rates over that label. `model` is name@digest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

STAGES = ("speech", "motion", "decoder")
"""Values of the label `stage`, named as in the configuration."""

_CALL_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_FIRST_FRAME_S = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)
_REAL_TIME = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 8.0, 16.0)
_BATCH = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)


@dataclass(frozen=True)
class MetricSpec:
    """One metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


METRICS = (
    MetricSpec(
        "ifmdm_stage_calls_total", "counter", "Calls answered or failed", ("stage", "model", "outcome")
    ),
    MetricSpec(
        "ifmdm_stage_latency_seconds", "histogram", "Time of a call as its caller sees it, retries included",
        ("stage", "model"), _CALL_S,
    ),
    MetricSpec(
        "ifmdm_stage_queue_seconds", "histogram", "Time of a call in its replica before its batch began",
        ("stage", "model"), _CALL_S,
    ),
    MetricSpec("ifmdm_stage_batch_calls", "histogram", "Calls in a call's batch", ("stage", "model"), _BATCH),
    MetricSpec(
        "ifmdm_stage_busy_seconds_total", "counter", "Working time, each call its share of its batch",
        ("stage", "model"),
    ),
    MetricSpec(
        "ifmdm_stage_frames_total", "counter",
        "Frames worked on, 25 to a second for speech and motion, overlaps counted; its rate is frames per second",
        ("stage", "model"),
    ),
    MetricSpec("ifmdm_stage_pending_calls", "gauge", "Calls sent and not answered", ("stage", "model")),
    MetricSpec("ifmdm_stage_retries_total", "counter", "Lost calls sent again to another replica", ("stage",)),
    MetricSpec(
        "ifmdm_appearance_cache_lookups_total", "counter", "Whether a decoder had the identity at hand",
        ("model", "result"),
    ),
    MetricSpec(
        "ifmdm_render_first_frame_seconds", "histogram", "From a request fully read to its first chunk", ("model",),
        _FIRST_FRAME_S,
    ),
    MetricSpec(
        "ifmdm_render_real_time_ratio", "histogram",
        "Seconds a finished render took for a second of video; below 1 plays without stalling", ("model",), _REAL_TIME,
    ),
    MetricSpec("ifmdm_renders_total", "counter", "Renders that ended", ("model", "outcome")),
    MetricSpec("ifmdm_render_video_seconds_total", "counter", "Seconds of video made", ("model",)),
    MetricSpec("ifmdm_renders_under_way", "gauge", "Renders admitted and not ended"),
    MetricSpec("ifmdm_rejections_total", "counter", "Requests refused, by reason", ("reason",)),
    MetricSpec("ifmdm_identities_total", "counter", "Portraits registered, new or known before", ("result",)),
)  # fmt: skip
