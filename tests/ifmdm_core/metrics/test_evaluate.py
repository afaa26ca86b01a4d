"""The evaluation end to end on a tiny bundle: every table and control row is there, whatever the model is worth."""

import numpy as np
import pytest

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.media.audio import audio_from_samples
from ifmdm_core.media.video_writer import VideoWriter
from ifmdm_core.metrics.against_truth import ROWS
from ifmdm_core.metrics.evaluate import Effort, evaluate
from ifmdm_core.metrics.stage import find_clips, reference_landmarker
from ifmdm_core.talking_head import TalkingHead

SMALL = Effort(
    {"clips": 2}, clip_s=2.6, sounds=2, seeds=2, sound_s=1.0, pairs=2, portraits=1, seams=2, silence_s=1.2
)


@pytest.fixture(scope="module")
def head(tiny_bundle):
    return TalkingHead.load(tiny_bundle, device="cpu")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    (folder / "people").mkdir()
    for name in ("a", "b"):
        frames = rng.integers(60, 200, (65, 8, 8, 3), dtype=np.uint8).repeat(12, 1).repeat(12, 2)
        sound = audio_from_samples((rng.standard_normal(41600) * 0.1).astype(np.float32), 16000)
        with VideoWriter(folder / "people" / f"{name}.mp4", (96, 96), 25, sound) as writer:
            writer.write(frames)
    return folder


@pytest.fixture(scope="module")
def landmarks(make_mesh):
    """A judge that sees a face in everything and reads its opening from the brightness below the middle."""

    def find(pictures):
        side = pictures.shape[1]
        gaps = pictures[:, side // 2 :].mean((1, 2, 3)) / 255 * 0.4
        return np.concatenate([make_mesh(gap) * side / 4 + side / 2 - side / 8 for gap in gaps]).astype(
            np.float32
        )

    return find


def test_every_table_and_control_row(head, clips, landmarks):
    report = evaluate(head, clips, landmarker=landmarks, effort=SMALL, notice=lambda text: None)
    assert report.clips == {"people": 2}
    titles = [table.title.split(".")[0].split(":")[0] for table in report.tables]
    assert titles == ["1a", "1b", "2", "3", "4", "5", "6", "7", "Controls", "8"]
    lips = next(table for table in report.tables if table.title.startswith("1b"))
    assert [row[0] for row in lips.rows] == [f"people: {row}" for row in ROWS[1:]]
    still = next(row for row in lips.rows if row[0].endswith("source copied"))
    assert still[2].startswith("0.00")  # a still mouth follows nothing
    late = next(row for row in lips.rows if "+5" in row[0])
    assert late[1] == "2"
    assert all(gate.met in (True, False, None) for table in report.tables for gate in table.gates)
    assert "not available: give weights" in report.markdown()


def test_without_a_landmarker_nothing_is_made_up(head, clips, monkeypatch):
    monkeypatch.delenv("IFMDM_FACE_LANDMARKER", raising=False)
    report = evaluate(head, clips)
    assert "not available: give --landmarker" in report.markdown()
    assert not any(gate.met for table in report.tables for gate in table.gates)


def test_missing_inputs(head, clips, tmp_path, landmarks):
    with pytest.raises(NotFound, match="no video"):
        find_clips(tmp_path)
    with pytest.raises(NotFound, match="no such face landmarker"):
        reference_landmarker(tmp_path / "x.task")
    with pytest.raises(BadInput, match="no clip"):
        evaluate(
            head, clips, landmarker=lambda p: np.full((len(p), 478, 3), np.nan), effort=SMALL, notice=print
        )
