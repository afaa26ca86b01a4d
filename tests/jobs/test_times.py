from __future__ import annotations

import pytest

from ifmdm_core.errors import BadInput
from jobs.commands.times import parse_duration, parse_time, span


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("+90m", 6400.0),
        ("+1.5h", 6400.0),
        ("12", 12.0),
        ("1970-01-02", 86400.0),
        ("1970-01-01T01:00+01:00", 0.0),
        ("1970-01-01T00:01Z", 60.0),
    ],
)
def test_times(text: str, at: float) -> None:
    assert parse_time(text, 1000.0, "--deadline") == at


@pytest.mark.parametrize("text", ["", "+", "+5", "tomorrow", "+-5m", "5 m"])
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(BadInput, match="--deadline is"):
        parse_time(text, 0.0, "--deadline")


def test_durations_and_how_they_are_told() -> None:
    assert [parse_duration(text, "--older") for text in ("1s", "2m", "3h", "4d", "1w")] == [
        1, 120, 10800, 345600, 604800
    ]  # fmt: skip
    assert [span(seconds) for seconds in (0.4, 59, 60, 9000, 86400 * 3)] == [
        "0 s",
        "59 s",
        "1 min",
        "2.5 h",
        "3 d",
    ]
