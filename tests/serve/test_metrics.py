"""What the gateway counts is what happened, under names that follow Prometheus."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput, Cancelled, Unavailable
from serve.messages import ChunkCall, IdentityRef, MotionWindow, Reply, Stages, WindowCall
from serve.metric_table import METRICS
from serve.metrics import GatewayMetrics, outcome_of
from serve.observed_stages import ObservedStages


def values(metrics: GatewayMetrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample: (name, labels without the gateway's) -> value."""
    samples = [sample for family in parse(metrics.exposition()[0].decode()) for sample in family.samples]
    return {
        (s.name, frozenset((k, v) for k, v in s.labels.items() if k != "gateway")): s.value for s in samples
    }


def value(metrics: GatewayMetrics, name: str, **labels: str) -> float | None:
    return values(metrics).get((name, frozenset(labels.items())))


class Scripted:
    """Stages that answer at once with fixed costs, or fail."""

    facts = SimpleNamespace(name="demo", digest="0123456789abcdef")

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error

    async def _reply(self, value: Any, hit: bool | None = None) -> Reply[Any]:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return Reply(value, seconds=0.25, waited=0.03, batch=3, replica="r1", hit=hit)

    async def encode(self, samples: Any) -> Reply[Any]:
        return await self._reply(samples)

    async def sample(self, call: WindowCall) -> Reply[Any]:
        return await self._reply(MotionWindow(np.zeros((40, 20), np.float32), np.zeros(40, np.float32)))

    async def identify(self, identity: IdentityRef) -> Reply[Any]:
        return await self._reply(np.zeros(20, np.float32), hit=False)

    async def decode(self, call: ChunkCall) -> Reply[Any]:
        return await self._reply(b"", hit=True)


IDENTITY = IdentityRef("here", "f" * 64)
WINDOW = WindowCall(
    speech=np.zeros((50, 16), np.float32), hint=np.zeros(20, np.float32), index=1,
    context=np.zeros((10, 20), np.float32), controls=RenderControls(),
)  # fmt: skip
CHUNK = ChunkCall(IDENTITY, 0, np.zeros((8, 20), np.float32), 25, None)


async def every_call(stages: ObservedStages) -> None:
    await stages.encode(np.zeros(160_000, np.float32))
    await stages.sample(WINDOW)
    await stages.identify(IDENTITY)
    await stages.decode(CHUNK)


def test_names_carry_their_unit() -> None:
    for spec in METRICS:
        assert spec.name.startswith("ifmdm_")
        assert spec.name.endswith("_total") == (spec.kind == "counter"), spec.name
        if spec.kind == "histogram":
            assert spec.name.endswith(("_seconds", "_ratio", "_calls")), spec.name
            assert list(spec.buckets) == sorted(set(spec.buckets))
        assert spec.help
        assert not spec.help.endswith(".")


def test_every_metric_of_the_table_is_published() -> None:
    published = {family.name for family in parse(GatewayMetrics("g").exposition()[0].decode())}
    assert {spec.name.removesuffix("_total") for spec in METRICS} <= published
    assert "process_resident_memory_bytes" in published


def test_replies_become_the_stages_figures() -> None:
    metrics = GatewayMetrics("g")
    stages = ObservedStages(cast(Stages, Scripted()), metrics)
    asyncio.run(every_call(stages))
    model = {"model": "demo@01234567"}
    for stage, calls, frames in (("speech", 1, 250), ("motion", 1, 40), ("decoder", 2, 8)):
        labels = {"stage": stage, **model}
        assert value(metrics, "ifmdm_stage_calls_total", outcome="ok", **labels) == calls
        assert value(metrics, "ifmdm_stage_frames_total", **labels) == frames
        assert value(metrics, "ifmdm_stage_busy_seconds_total", **labels) == 0.25 * calls
        assert value(metrics, "ifmdm_stage_queue_seconds_sum", **labels) == pytest.approx(0.03 * calls)
        assert value(metrics, "ifmdm_stage_latency_seconds_count", **labels) == calls
        assert value(metrics, "ifmdm_stage_batch_calls_bucket", le="2.0", **labels) == 0
        assert value(metrics, "ifmdm_stage_batch_calls_bucket", le="3.0", **labels) == calls
        assert value(metrics, "ifmdm_stage_pending_calls", **labels) == 0
    assert value(metrics, "ifmdm_appearance_cache_lookups_total", result="hit", **model) == 1
    assert value(metrics, "ifmdm_appearance_cache_lookups_total", result="miss", **model) == 1
    assert stages.busy_s == {"speech": 0.25, "motion": 0.25, "decoder": 0.5}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Unavailable("gone"), "unavailable"),
        (BadInput("no"), "badinput"),
        (Cancelled("enough"), "cancelled"),
        (asyncio.CancelledError(), "cancelled"),
        (ValueError("ours"), "bug"),
    ],
)
def test_failed_calls_are_counted_by_what_they_were(error: BaseException, outcome: str) -> None:
    metrics = GatewayMetrics("g")
    stages = ObservedStages(cast(Stages, Scripted(error)), metrics)

    async def fails() -> None:
        with pytest.raises(type(error)):
            await stages.decode(CHUNK)

    asyncio.run(fails())
    labels = {"stage": "decoder", "model": "demo@01234567"}
    assert outcome_of(error) == outcome
    assert value(metrics, "ifmdm_stage_calls_total", outcome=outcome, **labels) == 1
    assert value(metrics, "ifmdm_stage_pending_calls", **labels) == 0
    assert value(metrics, "ifmdm_stage_frames_total", **labels) is None


def test_a_call_under_way_is_pending() -> None:
    metrics = GatewayMetrics("g")

    async def look() -> None:
        stages = ObservedStages(cast(Stages, Scripted()), metrics)
        call = asyncio.create_task(stages.decode(CHUNK))
        await asyncio.sleep(0)
        assert value(metrics, "ifmdm_stage_pending_calls", stage="decoder", model=stages.model) == 1
        await call

    asyncio.run(look())


def test_a_render_from_admission_to_end() -> None:
    metrics = GatewayMetrics("g")
    with metrics.render("demo@1") as watch:
        assert value(metrics, "ifmdm_renders_under_way") == 1
        assert watch.first_frame_s is None
        watch.chunk(8, 25)
        first = watch.first_frame_s
        watch.chunk(25, 50)
        assert watch.first_frame_s == first
    watch.end("bug")  # too late to count
    assert value(metrics, "ifmdm_renders_under_way") == 0
    assert value(metrics, "ifmdm_renders_total", model="demo@1", outcome="finished") == 1
    assert value(metrics, "ifmdm_renders_total", model="demo@1", outcome="bug") is None
    assert value(metrics, "ifmdm_render_video_seconds_total", model="demo@1") == pytest.approx(0.82)
    assert value(metrics, "ifmdm_render_first_frame_seconds_count", model="demo@1") == 1
    assert value(metrics, "ifmdm_render_real_time_ratio_count", model="demo@1") == 1


def test_a_render_given_up_has_no_real_time_ratio() -> None:
    metrics = GatewayMetrics("g")
    with suppress(GeneratorExit), metrics.render("demo@1") as watch:
        watch.chunk(8, 25)
        raise GeneratorExit
    assert value(metrics, "ifmdm_renders_total", model="demo@1", outcome="cancelled") == 1
    assert value(metrics, "ifmdm_render_real_time_ratio_count", model="demo@1") is None


def test_refusals_retries_and_identities() -> None:
    metrics = GatewayMetrics("g")
    assert value(metrics, "ifmdm_stage_retries_total", stage="motion") == 0  # there before the first
    metrics.retry("motion")
    metrics.rejected("streams")
    metrics.rejected("streams")
    metrics.identity(new=True)
    metrics.identity(new=False)
    assert value(metrics, "ifmdm_stage_retries_total", stage="motion") == 1
    assert value(metrics, "ifmdm_rejections_total", reason="streams") == 2
    assert value(metrics, "ifmdm_identities_total", result="new") == 1
    assert value(metrics, "ifmdm_identities_total", result="known") == 1


def test_both_formats_say_which_replica_counted() -> None:
    metrics = GatewayMetrics("replica-7")
    metrics.rejected("rate")
    text, kind = metrics.exposition()
    assert kind.startswith("text/plain")
    assert b'ifmdm_rejections_total{gateway="replica-7",reason="rate"} 1.0' in text
    text, kind = metrics.exposition("application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    families = list(parse_openmetrics(text.decode()))
    assert all(s.labels["gateway"] == "replica-7" for family in families for s in family.samples)
