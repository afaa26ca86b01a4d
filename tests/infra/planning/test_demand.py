"""Formulas against hand calculations, and what must hold whatever the figures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifmdm_core.errors import BadInput
from infra.planning.demand import Load, demand
from infra.planning.rates import Rates
from tests.infra.planning.conftest import round_rates

FASTER = ("speech", "motion", "decoder")


def figures(load: Load, rates: Rates) -> dict[str, float]:
    return {figure.name: figure.value for figure in demand(load, rates)}


def test_a_day_by_hand(rates: Rates) -> None:
    load = Load(
        renders_per_day=86_400,
        speech_s=10,
        peak=2,
        used=0.5,
        slots=4,
        device_hour=0.5,
        data_hours=6,
        data_workers=3,
    )
    found = figures(load, rates)
    assert found["renders"] == 1.0
    assert found["renders at the peak"] == 2.0
    # 10 s: 1 s of speech, 250 frames x 8 ms = 2 s of motion, 250 x 20 ms = 5 s of painting; x 2 / 0.5
    assert [found[f"{stage}: work of a job"] for stage in FASTER] == pytest.approx([1, 2, 5])
    assert [found[f"{stage}: replicas"] for stage in FASTER] == [4, 8, 20]
    assert [found[f"{stage}: CPU cores"] for stage in FASTER] == pytest.approx([8, 16, 40])
    assert found["CPU cores"] == 64
    # A job has its slot for 0.05 + 0.3 + 8 + 0.2 + 0.1 s; 2/s of them, slots half used
    assert found["job slots"] == 35
    assert found["job workers"] == 9
    assert found["job workers: CPU cores"] == pytest.approx(2 * 0.5 / 0.5)
    # At the mean 1/s x 8.65 s / 0.5 / 4 slots: 5 workers, each a heartbeat every ten seconds
    assert found["S3 PUT"] == pytest.approx(86_400 * 10.02 + 5 * 8640)
    dollars = found["S3 requests"]
    requests = (found["S3 PUT"] + found["S3 LIST"]) * 5e-6 + found["S3 GET and HEAD"] * 4e-7
    assert dollars == pytest.approx(requests)
    assert found["S3 head-room of the busiest prefix"] == pytest.approx(3500 / 10)
    # 8 s of work a second at the mean, half used, 2 cores each: 32 cores
    assert found["money, scaled with the load"] == pytest.approx(32 * 24 * 0.5 + dollars)
    assert found["money for 1,000 renders"] == pytest.approx((32 * 24 * 0.5 + dollars) / 86.4)
    assert found["money, the peak's machines all day"] == pytest.approx(64 * 24 * 0.5 + dollars)
    assert found["extraction"] == pytest.approx(6 * 0.5 / 3)


def test_gpus_are_counted_whole_replicas_and_shared(rates: Rates) -> None:
    found = figures(
        Load(renders_per_day=86_400, speech_s=10, peak=1, used=1), round_rates(device="NVIDIA L4")
    )
    assert found["decoder: GPUs"] == pytest.approx(5)
    assert found["GPUs"] == 8
    assert "CPU cores" not in found


def test_a_million_renders_ask_for_what_the_measured_jobs_did() -> None:
    found = figures(Load(renders_per_day=1e6, speech_s=2, peak=1), round_rates())
    assert found["S3 requests"] == pytest.approx(60, rel=0.05)
    assert found["S3 head-room of the busiest prefix"] == pytest.approx(60.5, rel=0.01)


@given(
    st.floats(1, 1e7),
    st.floats(1, 10),
    st.floats(0.5, 60),
    st.floats(1, 4),
    st.floats(1, 5),
    st.floats(0.1, 1),
)
def test_more_never_needs_less(
    renders: float, more: float, speech_s: float, longer: float, peak: float, used: float
) -> None:
    rates = round_rates()
    less = Load(renders_per_day=renders, speech_s=speech_s, peak=peak, used=used, device_hour=1)
    for changes in ({"renders_per_day": renders * more}, {"speech_s": speech_s * longer}, {"used": used / 2}):
        some, others = figures(less, rates), figures(less.model_copy(update=changes), rates)
        for name, value in some.items():
            if "head-room" not in name and "for 1,000" not in name:
                assert others[name] >= value * (1 - 1e-9), name


@given(st.floats(1, 1e7), st.floats(0.5, 60), st.integers(1, 100))
def test_twice_the_rate_halves_the_machines(renders: float, speech_s: float, steps: int) -> None:
    slow = round_rates()
    fast = round_rates(
        speech=slow.speech.faster(2),
        motion={8: slow.motion[8].faster(2)},
        decoder={0: slow.decoder[0].faster(2)},
    )
    load = Load(renders_per_day=renders, speech_s=speech_s, steps=steps)
    before, after = figures(load, slow), figures(load, fast)
    for stage in FASTER:
        assert after[f"{stage}: CPU cores"] == pytest.approx(before[f"{stage}: CPU cores"] / 2)


def test_every_figure_says_how_it_was_made(rates: Rates) -> None:
    found = demand(Load(renders_per_day=1000, speech_s=3, device_hour=1, data_hours=1), rates)
    assert all(figure.formula for figure in found)
    painting = next(figure for figure in found if figure.name == "decoder: work of a job")
    assert painting.formula == "75 frames x 20 ms"


def test_what_was_not_measured_is_refused(rates: Rates) -> None:
    with pytest.raises(BadInput, match="no rate for size 512"):
        demand(Load(renders_per_day=1, speech_s=1, size=512), rates)
    with pytest.raises(BadInput, match="none for datasets"):
        demand(Load(renders_per_day=1, speech_s=1, data_hours=1), round_rates(extraction=None))
