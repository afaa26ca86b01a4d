"""Jobs of manifests."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput, NotFound
from infra.planning.manifest import read_manifest
from infra.planning.workload import PlannedJob


def test_a_manifest_of_jobs_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("portrait,speech_seconds,controls.steps,tenant\nann.jpg,2.5,4,acme\nbob.jpg,1,,\n")
    assert read_manifest(path) == [PlannedJob("acme", 2.5, 4), PlannedJob("default", 1.0)]
    path = tmp_path / "rows.jsonl"
    rows = [{"speech_seconds": 3, "controls": {"steps": 16, "size": 512}}, {"speech_seconds": 2, "size": 256}]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert read_manifest(path) == [PlannedJob("default", 3.0, 16, 512), PlannedJob("default", 2.0, 8, 256)]


def test_lengths_of_local_audio_are_looked_up(tmp_path: Path) -> None:
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
