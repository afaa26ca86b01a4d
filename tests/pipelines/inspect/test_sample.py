"""Samples: the same for the same seed, only what was asked for, written whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ifmdm_core.errors import BadInput
from ifmdm_core.media.video import probe_video
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.selection import Selection
from pipelines.inspect.sample import STILLS, TEXT_HEIGHT, contact_sheet, film, pick, write_sample


@pytest.fixture(scope="module")
def dataset(make_dataset: Callable[..., Dataset], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("sample") / "set")


def ids(dataset: Dataset, count: int, seed: int, **options: object) -> list[str]:
    return [clip.row["clip_id"] for clip in pick(dataset, count, seed, **options)]  # type: ignore[arg-type]


def test_the_choice_depends_on_the_seed(dataset: Dataset) -> None:
    assert ids(dataset, 5, 0) == ids(dataset, 5, 0) != ids(dataset, 5, 1)
    assert len(set(ids(dataset, 100, 0))) == 12


def test_filters(dataset: Dataset) -> None:
    assert {clip.row["identity"] for clip in pick(dataset, 20, 0, identity="ben")} == {"ben"}
    assert {clip.row["source"] for clip in pick(dataset, 20, 0, source="anna/*03*")} == {"anna/talk 03.mp4"}
    selection = Selection(name="s", generation=dataset.generation()[0], minimum={"sharpness": 200})
    assert all(clip.row["sharpness"] >= 200 for clip in pick(dataset, 20, 0, selection=selection))
    with pytest.raises(BadInput, match="no clip fits"):
        pick(dataset, 1, 0, split="val")


def test_motion_is_that_of_the_clip(dataset: Dataset) -> None:
    for clip in pick(dataset, 4, 0, motion=dataset.features("motion")):
        assert clip.motion is not None
        assert clip.motion.shape == (clip.row["num_frames"], 20)
    assert all(clip.motion is None for clip in pick(dataset, 4, 0))


def test_a_sheet_has_a_row_a_clip_with_pictures_and_lines(dataset: Dataset) -> None:
    clips = pick(dataset, 3, 0, motion=dataset.features("motion"))
    sheet = contact_sheet(clips, side=64)
    assert sheet.shape == (3 * (64 + TEXT_HEIGHT), (STILLS + 3) * 64, 3)
    plot = sheet[TEXT_HEIGHT : TEXT_HEIGHT + 64, STILLS * 64 :]
    without = contact_sheet(pick(dataset, 3, 0), side=64)[TEXT_HEIGHT : TEXT_HEIGHT + 64, STILLS * 64 :]
    assert (plot != without).any()
    np.testing.assert_array_equal(sheet[:TEXT_HEIGHT], contact_sheet(clips, side=64)[:TEXT_HEIGHT])


def test_a_film_lasts_as_long_as_the_longest_clip(dataset: Dataset) -> None:
    clips = pick(dataset, 5, 0, motion=dataset.features("motion"))
    frames = list(film(clips, side=64, columns=3))
    assert len(frames) == max(clip.row["num_frames"] for clip in clips)
    assert frames[0].shape == (2 * (64 + 32 + TEXT_HEIGHT), 192, 3)
    assert (frames[0] != frames[9]).any()


@pytest.mark.parametrize("name", ["sheet.jpg", "sheet.png", "film.mp4"])
def test_files_are_what_their_names_say(dataset: Dataset, tmp_path: Path, name: str) -> None:
    write_sample(tmp_path / name, pick(dataset, 2, 0, motion=dataset.features("motion")), side=64)
    if name.endswith("mp4"):
        assert probe_video(tmp_path / name).duration == pytest.approx(32 / 25, abs=0.1)
    else:
        with Image.open(tmp_path / name) as image:
            assert image.width == 64 * (STILLS + 3)
    assert [path.name for path in tmp_path.iterdir()] == [name]
