"""What a run says of itself, by a clock that the test turns."""

from __future__ import annotations

import io
import json
from datetime import datetime

import pytest

from pipelines.run.progress import Progress


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(clock: Clock, **options: bool) -> tuple[Progress, io.StringIO]:
    out = io.StringIO()
    return Progress("clips", out=out, clock=clock, now=clock.now, **options), out


def finish(progress: Progress, running: int = 2, quarantined: int = 0) -> None:
    progress.shard(seconds=60.0, videos=5, clips=6, frames=1500, quarantined=quarantined, running=running)


def test_a_line_has_counts_rate_queue_and_time_left(clock: Clock) -> None:
    progress, _ = make(clock)
    progress.start(sources=40)
    progress.probed(40, refused=3)
    progress.shards(4, seconds=240.0)
    clock.at += 30
    finish(progress, quarantined=1)
    assert progress.line().split(" ", 1)[1] == (
        "clips 1/4 shards, 5 videos, 6 clips, 1,500 frames, 50 frames/s, 4 quarantined, 1 queued, ETA 90 s"
    ).replace("90 s", "2 min")


def test_before_the_first_shard_it_says_what_was_looked_at(clock: Clock) -> None:
    progress, _ = make(clock)
    assert "starting" in progress.line()
    progress.start(sources=2533)
    progress.probed(64, refused=2)
    assert "64/2,533 videos looked at, 2 quarantined" in progress.line()


def test_a_log_gets_one_line_a_minute_and_the_last(clock: Clock) -> None:
    progress, out = make(clock)
    with progress:
        progress.shards(100, seconds=6000.0)
        for _ in range(25):
            clock.at += 10
            finish(progress)
        lines = out.getvalue().splitlines()
        assert len(lines) == 4
    assert "25/100 shards" in out.getvalue().splitlines()[-1]


def test_the_rate_is_that_of_the_last_minute(clock: Clock) -> None:
    progress, _ = make(clock)
    progress.shards(100, seconds=6000.0)
    for _ in range(10):
        clock.at += 10
        finish(progress)
    for _ in range(12):
        clock.at += 30
        finish(progress)
    assert progress.rate() == pytest.approx(50.0)


def test_causes_that_differ_in_names_only_make_one_line_a_minute(clock: Clock) -> None:
    progress, out = make(clock)
    for number in range(50):
        clock.at += 1
        progress.retry(f"clips {number}", f"'s3://b/{number}': the store answered 503 (SlowDown)")
    progress.retry("clips 1", "a worker was lost")
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert "clips 0 is tried again: 's3://b/0': the store answered 503 (SlowDown)" in lines[0]
    clock.at += 60
    progress.retry("clips 7", "'s3://b/7': the store answered 503 (SlowDown)")
    assert out.getvalue().splitlines()[2].endswith("(51 times so far)")
    assert progress.summary()["retries"] == {
        "...: the store answered 503 (SlowDown)": 51,
        "a worker was lost": 1,
    }


def test_a_shard_that_is_given_up_is_told_at_once_and_counted_out(clock: Clock) -> None:
    progress, out = make(clock)
    progress.shards(3, seconds=180.0)
    finish(progress, running=1)
    progress.failed("00002", "no room left")
    assert "00002 is not made: no room left" in out.getvalue()
    assert "0 queued" in progress.line()
    assert progress.summary()["failed"] == {"00002": "no room left"}


def test_quiet_says_nothing_and_still_knows(clock: Clock) -> None:
    progress, out = make(clock, quiet=True)
    with progress:
        progress.shards(2, seconds=120.0)
        clock.at += 100
        finish(progress)
        progress.retry("x", "cause")
        progress.failed("y", "why")
    assert out.getvalue() == ""
    assert progress.summary()["shards"] == 1


def test_the_summary_is_json(clock: Clock) -> None:
    progress, _ = make(clock)
    progress.shards(2, seconds=120.0)
    clock.at += 100
    finish(progress)
    summary = json.loads(json.dumps(progress.summary()))
    assert (summary["frames"], summary["seconds"], summary["frames_per_s"]) == (1500, 100.0, 15.0)


def test_a_terminal_gets_a_bar_and_keeps_the_lines_about_faults(clock: Clock) -> None:
    progress, out = make(clock, live=True)
    with progress:
        progress.shards(2, seconds=120.0)
        clock.at += 100
        finish(progress)
        progress.failed("00001", "it [hangs]")
    text = out.getvalue()
    assert "00001 is not made: it [hangs]" in text
    assert text.rstrip().splitlines()[-1].count("1/2 shards") == 1
