"""The Python of docs/datasets.md runs as it stands, and its tables name what there is."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.dataset.dataset import Dataset
from pipelines.dataset.schema import CLIPS
from pipelines.dataset.selection import build_selection, save_selection

GUIDE = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)


def block(marker: str) -> str:
    (found,) = (code for code in BLOCKS if marker in code)
    return found


def run(marker: str) -> None:
    exec(compile(block(marker), "datasets.md", "exec"), {})


@pytest.fixture
def dataset(make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.chdir(tmp_path)
    made = make_dataset(tmp_path / "set")
    return save_selection(made, build_selection(made, "good", minimum={"sharpness": 0}, heldout_share=0))


def test_shards_are_read_with_pyarrow_alone(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    run("import pyarrow")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    assert "ifmdm" not in block("import pyarrow")
    assert "pipelines" not in block("import pyarrow")


def test_shards_are_read_with_pandas_alone(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pandas")
    run("import pandas")
    assert "chioma" in capsys.readouterr().out
    assert Path("first.mp4").read_bytes()[4:8] == b"ftyp"
    assert "pipelines" not in block("import pandas")


def test_the_reader_example_runs(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    run("MotionReader")
    assert "(25, 20)" in capsys.readouterr().out


def test_the_hdtf_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("HDTF_dataset").mkdir()
    Path("HDTF_dataset/WRA_annotion_time.txt").write_text(
        "AnnSmith0.mp4 00:05-01:20 02:00-02:40 \nGone1.mp4 00:05-00:10\nBen.mp4 1:00:00-1:00:10\n\n"
    )
    Path("videos").mkdir()
    for name in ("AnnSmith0", "Ben"):
        Path(f"videos/{name}.mp4").touch()
    run("HDTF_dataset")
    with open("hdtf.csv", newline="") as file:
        rows = [tuple(row.values())[:5] for row in csv.DictReader(file)]
    assert rows == [
        ("videos/AnnSmith0.mp4", "5", "80", "AnnSmith", "WRA"),
        ("videos/AnnSmith0.mp4", "120", "160", "AnnSmith", "WRA"),
        ("videos/Ben.mp4", "3600", "3610", "Ben", "WRA"),
    ]


def test_the_celebv_text_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    clips = {
        "a_0": {"ytb_id": "a", "duration": {"start_sec": 0.0, "end_sec": 9.64}},
        "b_7": {"ytb_id": "b", "duration": {"start_frame": 415.29, "end_frame": 420.88}},
        "c_1": {"ytb_id": "c", "duration": {"start_sec": 0.0, "end_sec": 1.0}},
    }
    Path("celebvtext_info.json").write_text(json.dumps({"clips": clips}))
    Path("videos").mkdir()
    for name in "ab":
        Path(f"videos/{name}.mp4").touch()
    run("celebvtext_info")
    with open("celebv_text.csv", newline="") as file:
        rows = [tuple(row.values())[:4] for row in csv.DictReader(file)]
    assert rows == [("videos/a.mp4", "0.0", "9.64", "a_0"), ("videos/b.mp4", "415.29", "420.88", "b_7")]


def test_the_schema_table_has_every_column_and_no_other() -> None:
    table = GUIDE.partition("### Clip shards")[2].partition("### Feature shards")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == sorted(CLIPS.names)


def test_the_command_table_has_every_command_and_no_other() -> None:
    from pipelines.commands.data import app

    offered = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert set(re.findall(r"^\| `data (\w+)", GUIDE, flags=re.MULTILINE)) == offered
    assert set(re.findall(r"ifmdm data (\w+)", GUIDE)) <= offered
