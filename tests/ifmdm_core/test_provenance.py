import json
from pathlib import Path

import numpy as np
import pytest

from ifmdm_core.errors import NotFound
from ifmdm_core.media.video import VideoWriter
from ifmdm_core.provenance import SOURCE_TYPE, read_tags, sha256_of, synthetic_tags


def _write(path: Path, metadata: dict[str, str] | None) -> Path:
    with VideoWriter(path, (64, 64), 25, metadata=metadata) as writer:
        writer.write(np.zeros((3, 64, 64, 3), np.uint8))
    return path


def test_the_mark_survives_the_container(tmp_path: Path) -> None:
    tags = synthetic_tags(
        model="démo",
        model_sha256="ab" * 32,
        inputs={"photo": sha256_of(b"photo"), "audio": sha256_of(b"audio")},
        controls={"seed": 3, "pose": "hold"},
    )
    record = read_tags(_write(tmp_path / "a.mp4", tags))
    assert record is not None
    assert record["ai_generated"] is True
    assert (record["model"], record["model_sha256"]) == ("démo", "ab" * 32)
    assert record["inputs"]["photo"] == sha256_of(b"photo")
    assert record["controls"] == {"seed": 3, "pose": "hold"}
    assert tags["digital_source_type"] == SOURCE_TYPE


def test_people_can_read_it_too() -> None:
    assert synthetic_tags(model="demo", model_sha256="0")["comment"].startswith("AI-generated")


def test_an_unmarked_or_altered_video_has_no_record(tmp_path: Path) -> None:
    assert read_tags(_write(tmp_path / "plain.mp4", None)) is None
    assert read_tags(_write(tmp_path / "broken.mp4", {"ifmdm": "{"})) is None
    assert read_tags(_write(tmp_path / "other.mp4", {"ifmdm": '{"ai_generated":false}'})) is None


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_tags(tmp_path / "no.mp4")


def test_the_controls_of_a_record_can_be_used_again() -> None:
    from ifmdm_core.controls import RenderControls
    from ifmdm_core.provenance import TAG, synthetic_tags

    controls = RenderControls(face=(1, 2, 30, 40), pose="hold", intensity=None, seed=2**62)
    tags = synthetic_tags(model="m", model_sha256="0", controls=controls.model_dump(mode="json"))
    assert RenderControls(**json.loads(tags[TAG])["controls"]) == controls
