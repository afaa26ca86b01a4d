"""What the gateway counts, for Prometheus: stages by their replies, renders from admission to end, refusals.

metrics = GatewayMetrics(replica)
stages = ObservedStages(stages, metrics)           # serve/observed_stages.py feeds the stages' figures
with metrics.render(stages.model) as watch:        # one render
    watch.chunk(len(frames), fps)
body, content_type = metrics.exposition(request.headers.get("accept", ""))
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ifmdm_core.errors import Cancelled, IfmdmError
from serve.messages import Reply
from serve.metric_table import METRICS, STAGES


class RenderWatch:
    """One render under way: tell it of chunks as they leave, and of its end (as a context, the end is noticed)."""

    def __init__(self, model: str, metrics: GatewayMetrics) -> None:
        self._model, self._metrics, self._began = model, metrics, time.monotonic()
        self._ended: float | None = None
        metrics.count("ifmdm_renders_under_way")
        self.first_frame_s: float | None = None
        """Seconds from the beginning to the first chunk; None before it."""
        self.video_s = 0.0
        """Seconds of video so far."""
        self.outcome: str | None = None
        """How it ended; None while it is under way."""

    @property
    def seconds(self) -> float:
        """From the beginning to the end, or to now."""
        return (self._ended or time.monotonic()) - self._began

    def chunk(self, frames: int, fps: int) -> None:
        """A chunk of `frames` is ready to be sent."""
        if self.first_frame_s is None:
            self.first_frame_s = self.seconds
            self._metrics.histogram("ifmdm_render_first_frame_seconds", self.first_frame_s, self._model)
        self.video_s += frames / fps
        self._metrics.count("ifmdm_render_video_seconds_total", frames / fps, self._model)

    def end(self, outcome: str) -> None:
        """It ended: `finished`, or what `outcome_of` calls its error. Only the first call counts."""
        if self.outcome is not None:
            return
        self.outcome, self._ended = outcome, time.monotonic()
        self._metrics.count("ifmdm_renders_under_way", -1)
        self._metrics.count("ifmdm_renders_total", 1, self._model, outcome)
        if outcome == "finished" and self.video_s:
            self._metrics.histogram("ifmdm_render_real_time_ratio", self.seconds / self.video_s, self._model)

    def __enter__(self) -> RenderWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end("finished" if error is None else outcome_of(error))


class GatewayMetrics:
    """The figures of one gateway replica (a registry of its own, so several fit into a process)."""

    def __init__(self, gateway: str = "") -> None:
        """`gateway` tells replicas apart in every series."""
        self._registry, self._gateway = CollectorRegistry(auto_describe=True), gateway
        self._metrics: dict[str, Any] = {}
        for spec in METRICS:
            if spec.kind == "histogram":
                self._metrics[spec.name] = Histogram(
                    spec.name, spec.help, spec.labels, buckets=spec.buckets, registry=self._registry
                )
            else:
                kind = Counter if spec.kind == "counter" else Gauge
                self._metrics[spec.name] = kind(spec.name, spec.help, spec.labels, registry=self._registry)
        for stage in STAGES:  # a rate over a series that does not exist yet misses its first event
            self.count("ifmdm_stage_retries_total", 0, stage)
        ProcessCollector(registry=self._registry)

    def count(self, name: str, by: float = 1, *labels: str) -> None:
        """Adds to a counter or gauge of the table; `labels` in the table's order."""
        metric = self._metrics[name]
        (metric.labels(*labels) if labels else metric).inc(by)

    def histogram(self, name: str, value: float, *labels: str) -> None:
        """Notes a value in a histogram of the table."""
        self._metrics[name].labels(*labels).observe(value)

    def reply(self, stage: str, model: str, reply: Reply[Any], latency_s: float, frames: float) -> None:
        """A stage answered: what it says it cost, and how long the caller waited in all."""
        self.count("ifmdm_stage_calls_total", 1, stage, model, "ok")
        self.count("ifmdm_stage_busy_seconds_total", reply.seconds, stage, model)
        self.count("ifmdm_stage_frames_total", frames, stage, model)
        self.histogram("ifmdm_stage_latency_seconds", latency_s, stage, model)
        self.histogram("ifmdm_stage_queue_seconds", reply.waited, stage, model)
        self.histogram("ifmdm_stage_batch_calls", reply.batch, stage, model)
        if reply.hit is not None:
            self.count("ifmdm_appearance_cache_lookups_total", 1, model, "hit" if reply.hit else "miss")

    def failure(self, stage: str, model: str, error: BaseException) -> None:
        """A call ended without an answer."""
        self.count("ifmdm_stage_calls_total", 1, stage, model, outcome_of(error))

    def retry(self, stage: str) -> None:
        """A lost call is sent again."""
        self.count("ifmdm_stage_retries_total", 1, stage)

    def rejected(self, reason: str) -> None:
        """A request was refused. `reason` is one of a few words (streams, rate, token, size, …), never user input."""
        self.count("ifmdm_rejections_total", 1, reason)

    def identity(self, new: bool) -> None:
        """A portrait was registered."""
        self.count("ifmdm_identities_total", 1, "new" if new else "known")

    def render(self, model: str) -> RenderWatch:
        """Begins an admitted render, its request fully read."""
        return RenderWatch(model, self)

    def include(self, collector: Collector) -> None:
        """Tells somebody else's figures beside these from now on."""
        self._registry.register(collector)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All figures as text, and its content type: Prometheus's format, or OpenMetrics where asked for."""
        encode, content_type = choose_encoder(accept)
        return encode(_Named(self._registry, self._gateway)), content_type


def outcome_of(error: BaseException) -> str:
    """A few words an error falls under: `cancelled`, an IfmdmError's class in lower case, or `bug`."""
    if isinstance(error, (Cancelled, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)):
        return "cancelled"
    return type(error).__name__.lower() if isinstance(error, IfmdmError) else "bug"


class _Named(Collector):
    """A registry's metrics with the gateway's name on every sample, and without the times at which they were made."""

    def __init__(self, registry: CollectorRegistry, gateway: str) -> None:
        self._registry, self._gateway = registry, gateway

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            named = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            named.samples = [
                sample._replace(labels={**sample.labels, "gateway": self._gateway})
                for sample in metric.samples
                if not sample.name.endswith("_created")
            ]
            yield named
