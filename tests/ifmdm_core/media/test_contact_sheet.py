"""Contact sheets show the frames they name, in order."""

import cv2
import numpy as np
import pytest

from ifmdm_core.errors import BadInput, Forbidden
from ifmdm_core.media.contact_sheet import film_strip, grid, write_grid
from ifmdm_core.media.video_writer import VideoWriter


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Twenty frames that brighten."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    frames = np.stack([np.full((64, 64, 3), 12 * i, np.uint8) for i in range(20)])
    with VideoWriter(path, (64, 64), 25, None) as writer:
        writer.write(frames)
    return path


def test_a_strip_is_in_order_and_spans_the_film(film):
    strip = film_strip(film, 5)
    levels = [picture.mean() for picture in strip]
    assert len(strip) == 5
    assert levels == sorted(levels)
    assert levels[0] < 20
    assert levels[-1] > 150


def test_rows_may_differ_in_length():
    black, white = np.zeros((10, 10, 3), np.uint8), np.full((20, 20, 3), 255, np.uint8)
    sheet = grid([[black, black, black], [white]], 8)
    assert sheet.shape == (16, 24, 3)
    assert sheet[:8].max() == 0
    assert sheet[8:].min() == 255


def test_too_short_a_film_is_refused(film):
    with pytest.raises(BadInput, match="ask for at most"):
        film_strip(film, 400)


def test_a_sheet_is_written_in_colour(tmp_path):
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    write_grid(tmp_path / "sheet.png", [[red]], 8)
    assert cv2.imread(str(tmp_path / "sheet.png"))[4, 4].tolist() == [0, 0, 255]
    with pytest.raises(Forbidden, match="cannot be written"):
        write_grid(tmp_path / "missing" / "sheet.png", [[red]], 8)
