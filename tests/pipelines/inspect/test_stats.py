"""Figures agree with the rows they are of; the report stands alone."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipelines.dataset.dataset import Dataset
from pipelines.dataset.selection import build_selection
from pipelines.dataset.shard_file import feature_values
from pipelines.inspect.report import page, png
from pipelines.inspect.stats import compute_stats


@pytest.fixture(scope="module")
def dataset(make_dataset: Callable[..., Dataset], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    def said(row: dict[str, object]) -> dict[str, object]:
        return {
            **row,
            "labels": ["talk", "<b>indoors</b>"],
            "split": "val" if row["identity"] == "ben" else None,
        }

    return make_dataset(tmp_path_factory.mktemp("stats") / "set", change=said)


def test_figures_are_those_of_the_rows(dataset: Dataset) -> None:
    motion = dataset.features("motion")
    stats = compute_stats(dataset, motion=motion)
    rows, moves = [], []
    for shard in dataset.generation()[1].shards:
        with dataset.aligned(shard, motion) as (clips, table):
            rows += clips.drop(["video", "audio"]).to_pylist()
            moves += [np.array(feature_values(table["motion"], k, 20)) for k in range(table.num_rows)]
    assert (stats.clips, stats.sources) == (12, 6)
    assert stats.motion is not None
    assert stats.frames == sum(row["num_frames"] for row in rows) == stats.motion["frames"]
    assert stats.hours == pytest.approx(stats.frames / 25 / 3600)
    assert stats.silent_clips == sum(row["loudness"] is None for row in rows)
    assert stats.quality["loudness"]["missing"] == stats.silent_clips
    for column, found in stats.quality.items():
        assert sum(found["counts"]) == stats.clips - found["missing"], column
    assert stats.quality["sharpness"]["percentiles"][2] == pytest.approx(
        np.median([row["sharpness"] for row in rows]), rel=1e-5
    )
    assert {person: clips for person, (clips, _) in stats.groups["identity"].items()} == {
        "anna": 4, "ben": 4, "chioma": 4,
    }  # fmt: skip
    assert stats.groups["split"]["val"][0] == 4
    assert {label: clips for label, (clips, _) in stats.groups["label"].items()} == {
        "talk": 12, "<b>indoors</b>": 12,
    }  # fmt: skip
    assert sum(hours for _, hours in stats.groups["folder"].values()) == pytest.approx(stats.hours)
    whole = np.concatenate(moves)
    np.testing.assert_allclose(stats.motion["mean"], whole.mean(0), atol=1e-5)
    np.testing.assert_allclose(stats.motion["deviation"], whole.std(0), atol=1e-5)
    changes = np.concatenate([np.diff(move, axis=0) for move in moves])
    np.testing.assert_allclose(stats.motion["speed"], np.sqrt((changes**2).mean(0)), atol=1e-5)
    assert np.array(stats.motion["histogram"]).sum(1).tolist() == [len(whole)] * 20


def test_a_selection_narrows_everything(dataset: Dataset) -> None:
    selection = build_selection(dataset, "sharp", minimum={"sharpness": 200})
    stats = compute_stats(dataset, selection=selection, motion=dataset.features("motion"))
    assert 0 < stats.clips < 12
    assert stats.motion is not None
    assert stats.clips + sum(stats.left_out.values()) == 12
    assert stats.frames == stats.motion["frames"]
    assert "unknown" not in stats.groups["split"]


def test_the_report_stands_alone_and_quotes_what_it_is_given(dataset: Dataset) -> None:
    text = page(compute_stats(dataset, motion=dataset.features("motion")))
    assert not re.search(r"<script|<link|src=\"(?!data:)|<b>indoors", text)
    assert "&lt;b&gt;indoors" in text
    assert "chioma" in text


def test_a_dataset_without_clips_has_a_report(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    from PIL import Image

    dataset = make_dataset(tmp_path / "set", shards=1, features=())
    selection = build_selection(dataset, "none", minimum={"face_size": 10_000})
    stats = compute_stats(dataset, selection=selection)
    assert stats.clips == 0
    with Image.open(io.BytesIO(png(stats))) as image:
        assert image.width > 1000
