"""Rates with round figures."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from infra.planning.rates import OWN_SIZE, Cost, Rates


def round_rates(**changes: object) -> Rates:
    """A second of speech: 0.1 s of the speech encoder, 25 frames x 8 ms of motion, 25 x 20 ms of painting."""
    values = {
        "source": "by hand", "machine": "none", "device": "cpu", "measured_at": datetime(2026, 1, 2, tzinfo=UTC),
        "cores": 2, "encoding": 0.0, "speech": Cost(per_unit=0.1, unit="video second", samples=3),
        "motion": {8: Cost(per_unit=0.008, unit="frame", samples=3)},
        "decoder": {OWN_SIZE: Cost(per_unit=0.02, unit="frame", samples=3)},
        "claim": Cost(per_job=0.05, samples=3), "inputs": Cost(per_job=0.3, samples=3),
        "finish": Cost(per_job=0.2, samples=3), "publish": Cost(per_job=0.1, samples=3),
        "start": Cost(per_job=4.0, samples=1), "extraction": Cost(per_unit=1800.0, unit="hour of video", samples=2),
    }  # fmt: skip
    return Rates.model_validate({**values, **changes})


@pytest.fixture
def rates() -> Rates:
    return round_rates()
