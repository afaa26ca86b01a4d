"""Jobs of manifests, and jobs that arrive over a day."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput, NotFound
from infra.planning.workload import DAY_S, PlannedJob, TenantHabits, arrivals, read_manifest, speech_seconds

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


def test_a_manifest_of_jobs_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("portrait,speech_seconds,controls.steps,tenant\nann.jpg,2.5,4,acme\nbob.jpg,1,,\n")
    assert read_manifest(path) == [PlannedJob("acme", 2.5, 4), PlannedJob("default", 1.0)]
    path = tmp_path / "rows.jsonl"
    rows = [{"speech_seconds": 3, "controls": {"steps": 16, "size": 512}}, {"speech_seconds": 2, "size": 256}]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert read_manifest(path) == [PlannedJob("default", 3.0, 16, 512), PlannedJob("default", 2.0, 8, 256)]


def test_lengths_of_local_audio_are_looked_up(tmp_path: Path) -> None:
    import wave

    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(b"\x00\x20\x00\xe0" * 12_000)
    path = tmp_path / "rows.csv"
    path.write_text(f"portrait,audio\nann.jpg,{tmp_path}/a.wav\n")
    assert read_manifest(path)[0].speech_s == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("speech_seconds\n1\nlong\n", "row 2: speech_seconds is 'long'; a number of seconds above 0"),
        ("audio\ns3://a/b.wav\n", "row 1: how long it speaks is not known; add a column speech_seconds"),
        ("speech_seconds,steps\n1,0.5\n", "row 1: steps is '0.5'; a whole number above 0"),
        ("speech_seconds\n", "has no rows"),
    ],
)
def test_a_row_that_says_too_little_is_named(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(content)
    with pytest.raises(BadInput, match=says):
        read_manifest(path)
    with pytest.raises(NotFound, match="no manifest"):
        read_manifest(tmp_path / "none.csv")
