"""When somebody should look, and where it says what to do: docs/runbooks.md has a section for each alert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from infra.grafana.queries import quantile, rate, series, told

RUNBOOKS = "docs/runbooks.md"
"""In this repository; where yours can be read is an option of `python -m infra.grafana`."""
OURS = "~bug|ifmdmerror|unavailable"
"""Ends of a render that its client could not help."""


@dataclass(frozen=True)
class Alert:
    """One rule."""

    name: str
    """Also its section in the runbooks."""
    expression: str
    minutes: int
    """For so long it has to hold."""
    severity: Literal["page", "ticket"]
    summary: str

    @property
    def anchor(self) -> str:
        """Of its section, as GitHub makes it from the heading."""
        return self.name.lower()

    def rule(self, runbooks: str) -> dict[str, Any]:
        """As Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": f"{self.minutes}m",
            "labels": {"severity": self.severity, "service": "ifmdm"},
            "annotations": {"summary": self.summary, "runbook_url": f"{runbooks}#{self.anchor}"},
        }


_ENDED = rate("ifmdm_renders_total", window="10m")

ALERTS = (
    Alert(
        "NoGateway", f"absent({series('ifmdm_renders_under_way')})", 5, "page",
        "No gateway has told Prometheus anything for five minutes",
    ),
    Alert(
        "RendersFail", f"{rate('ifmdm_renders_total', window='10m', outcome=OURS)} / {_ENDED} > 0.02", 10, "page",
        "More than 2 % of the renders end through a fault of the service",
    ),
    Alert(
        "StageCallsFail",
        f"{rate('ifmdm_stage_calls_total', ('stage',), '10m', outcome=OURS)}"
        f" / {rate('ifmdm_stage_calls_total', ('stage',), '10m')} > 0.05",
        10, "page", "More than 5 % of the calls to {{ $labels.stage }} fail",
    ),
    Alert(
        "StageReplicasLost", f"{rate('ifmdm_stage_retries_total', ('stage',), '15m')} * 900 > 20", 0, "ticket",
        "More than 20 calls to {{ $labels.stage }} were lost and made again within a quarter of an hour",
    ),
    Alert(
        "StageQueueLong", f"{quantile(0.95, 'ifmdm_stage_queue_seconds', ('stage',))} > 2", 10, "ticket",
        "Calls wait more than two seconds in {{ $labels.stage }}",
    ),
    Alert(
        "FirstFrameLate", f"{quantile(0.95, 'ifmdm_render_first_frame_seconds')} > 5", 15, "ticket",
        "One render in twenty shows nothing for more than five seconds",
    ),
    Alert(
        "SlowerThanPlayback", f"{quantile(0.9, 'ifmdm_render_real_time_ratio')} > 1", 15, "ticket",
        "One render in ten takes longer than its video: players stall",
    ),
    Alert(
        "RefusedForRoom",
        f"{rate('ifmdm_rejections_total', reason='busy')}"
        f" / ({rate('ifmdm_rejections_total', reason='busy')} + {rate('ifmdm_renders_total')}) > 0.05",
        10, "ticket", "More than one request in twenty finds no room",
    ),
    Alert(
        "NoJobWorkers", f"{told('ifmdm_job_workers')} == 0 and on () sum({series('ifmdm_jobs_waiting')}) > 0",
        5, "page", "Jobs wait and no worker is alive",
    ),
    Alert(
        "JobsWaitLong", f"{told('ifmdm_jobs_oldest_wait_seconds', ('tenant',))} > 3600", 10, "ticket",
        "A job of {{ $labels.tenant }} has waited for more than an hour",
    ),
    Alert(
        "JobsDead", f"max by (tenant) (delta({series('ifmdm_jobs_dead')}[1h])) > 0", 0, "ticket",
        "Jobs of {{ $labels.tenant }} were given up in the last hour",
    ),
    Alert(
        "JobStoreUnseen", f"time() - {told('ifmdm_jobs_seen_timestamp_seconds')} > 300", 5, "page",
        "No gateway could look at the job store for five minutes",
    ),
)  # fmt: skip


def rules(runbooks: str = RUNBOOKS) -> dict[str, Any]:
    """The file that Prometheus loads."""
    return {"groups": [{"name": "ifmdm", "rules": [alert.rule(runbooks) for alert in ALERTS]}]}
