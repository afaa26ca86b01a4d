"""Jobs that arrive over a day."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from infra.planning.workload import DAY_S, TenantHabits, arrivals, speech_seconds

STEADY = TenantHabits(name="steady", share=3)
DAILY = TenantHabits(name="daily", share=1, swing=1, peak_hour=12)
BURSTS = TenantHabits(name="bursts", share=4, bursts=4, burst_s=60)


def test_a_day_has_the_jobs_asked_for_shared_as_asked_in_order() -> None:
    found = list(arrivals((STEADY, DAILY, BURSTS), 16_000, DAY_S, random.Random(1)))
    assert [at for at, _ in found] == sorted(at for at, _ in found)
    counts = Counter(tenant for _, tenant in found)
    assert counts["bursts"] == 8000
    assert counts["steady"] == pytest.approx(6000, rel=0.05)
    assert counts["daily"] == pytest.approx(2000, rel=0.1)
    assert list(arrivals((STEADY, DAILY, BURSTS), 16_000, DAY_S, random.Random(1))) == found
    assert list(arrivals((STEADY, DAILY, BURSTS), 16_000, DAY_S, random.Random(2))) != found


def test_habits_are_seen() -> None:
    hours: dict[str, Counter[int]] = {name: Counter() for name in ("daily", "bursts")}
    for at, tenant in arrivals((DAILY, BURSTS), 50_000, DAY_S, random.Random(3)):
        hours[tenant][int(at // 3600)] += 1
    assert hours["daily"][12] > 20 * hours["daily"][0]
    assert hours["daily"][12] == pytest.approx(10_000 / 24 * 2, rel=0.15)
    assert len(hours["bursts"]) <= 8  # four bursts of a minute, each in one hour or two
    assert sum(hours["bursts"].values()) == 40_000


def test_lengths_have_the_mean_asked_for() -> None:
    chance = random.Random(4)
    lengths = [speech_seconds(8.0, 0.5, chance) for _ in range(20_000)]
    assert sum(lengths) / len(lengths) == pytest.approx(8.0, rel=0.03)
    assert min(lengths) >= 0.5
    assert speech_seconds(8.0, 0.0, chance) == 8.0
