"""Other systems' videos: matched by name, framed by the face."""

import cv2
import numpy as np
import pytest

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.media.face import crop
from ifmdm_core.media.video import probe_video, read_frames
from ifmdm_core.media.video_writer import VideoWriter
from ifmdm_core.metrics.stage import load_clip, own_landmarker
from pipelines.evaluate.baselines import baseline_row, parse_rows
from pipelines.evaluate.framing import framed
from pipelines.evaluate.held_out import held_out_clips


def test_rows_are_given_as_name_and_folder():
    assert {name: str(path) for name, path in parse_rows(["a b=x/y", "c=z"]).items()} == {
        "a b": "x/y",
        "c": "z",
    }
    for text in ("x", "=y", "x="):
        with pytest.raises(BadInput, match="NAME=FOLDER"):
            parse_rows([text])
    for name in ("ours", "ground truth", "source copied"):
        with pytest.raises(BadInput, match="there already"):
            parse_rows([f"{name}=x"])
    with pytest.raises(BadInput, match="there already"):
        parse_rows(["a=x", "a=y"])


def test_videos_are_matched_by_path_or_by_name(talking_folder, tmp_path):
    clips = held_out_clips(str(talking_folder))
    assert set(baseline_row("t", talking_folder, clips).videos) == {"people__talk1", "people__talk2"}
    (tmp_path / "talk2.mp4").touch()
    (tmp_path / "other.mp4").touch()
    row = baseline_row("t", tmp_path, clips)
    assert row.videos == {"people__talk2": str(tmp_path.resolve() / "talk2.mp4")}
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "talk2.mp4").touch()
    with pytest.raises(BadInput, match="could both be clip people__talk2"):
        baseline_row("t", tmp_path, clips)
    with pytest.raises(NotFound, match="no folder"):
        baseline_row("t", tmp_path / "none", clips)
    with pytest.raises(BadInput, match="named as a clip"):
        baseline_row("t", tmp_path / "again", [clips[0]])


@pytest.fixture(scope="module")
def real(talking_folder):
    path = talking_folder / "people" / "talk1.mp4"
    landmarks = own_landmarker()
    clip = load_clip(path, "people", 128, landmarks, 1.2)
    info = probe_video(path)
    return path, clip, (info.width, info.height), landmarks(clip.crops), landmarks


def test_the_real_video_itself_is_framed_to_the_last_pixel(real):
    path, clip, size, meshes, landmarks = real
    frames, how = framed(path, 1.2, 128, clip.square, size, meshes, landmarks)
    assert how == "as the original"
    np.testing.assert_array_equal(frames, clip.crops)


def test_a_video_of_the_exported_portrait_is_framed_as_that(real, tmp_path):
    path, clip, size, meshes, landmarks = real
    frames = np.stack([crop(frame, clip.square, 192) for frame in read_frames(path, 25, 0, 1.2)])
    with VideoWriter(tmp_path / "p.mp4", (192, 192), 25) as writer:
        writer.write(frames)
    found, how = framed(tmp_path / "p.mp4", 1.2, 128, clip.square, size, meshes, landmarks)
    # The same size as the original, so only the place of the face can tell.
    assert (size, how) == ((192, 192), "as the portrait")
    assert np.abs(found.astype(int) - clip.crops).mean() < 4


@pytest.mark.parametrize("border", [(60, 20, 150, 10), (150, 50, 60, 140)], ids=["wide", "square"])
def test_any_other_framing_is_cut_around_the_face(real, tmp_path, border):
    path, clip, size, meshes, landmarks = real
    wide = [
        cv2.copyMakeBorder(frame, *border, cv2.BORDER_CONSTANT) for frame in read_frames(path, 25, 0, 1.2)
    ]
    with VideoWriter(tmp_path / "w.mp4", (wide[0].shape[1], wide[0].shape[0]), 25) as writer:
        writer.write(np.stack(wide))
    found, how = framed(tmp_path / "w.mp4", 1.2, 128, clip.square, size, meshes, landmarks)
    assert how == "by its face"
    assert np.abs(found.astype(int) - clip.crops).mean() < 20
