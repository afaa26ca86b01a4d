"""Which clips are measured on, and that they are the dataset's own pictures."""

import numpy as np
import pytest

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.media.clip_codec import decode_sound
from ifmdm_core.media.video import read_frames, read_video_audio
from pipelines.evaluate.held_out import HeldClip, clips_digest, fetch, held_out_clips, spread


def test_a_folder_names_clips_and_kinds(talking_folder, tmp_path):
    clips = held_out_clips(str(talking_folder))
    assert [(clip.name, clip.kind) for clip in clips] == [
        ("people__talk1", "people"),
        ("people__talk2", "people"),
    ]
    copy = tmp_path / "elsewhere" / "people"
    copy.mkdir(parents=True)
    for name in ("talk1.mp4", "talk2.mp4"):
        (copy / name).write_bytes((talking_folder / "people" / name).read_bytes())
    assert clips_digest(held_out_clips(str(copy.parent))) == clips_digest(clips)
    (copy / "talk2.mp4").write_bytes((talking_folder / "people" / "talk1.mp4").read_bytes())
    assert clips_digest(held_out_clips(str(copy.parent))) != clips_digest(clips)


def test_places_without_clips_are_refused(tmp_path):
    with pytest.raises(NotFound, match="no such dataset or folder"):
        held_out_clips(str(tmp_path / "none"))
    with pytest.raises(NotFound, match="no video under"):
        held_out_clips(str(tmp_path))
    for name in ("a.mp4", "a.mov"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(BadInput, match="two videos named 'a'"):
        held_out_clips(str(tmp_path))


def test_a_dataset_gives_its_held_out_clips_that_have_sound(make_dataset, tmp_path):
    def change(row):
        return {**row, "split": "heldout" if row["identity"] == "anna" else "train"}

    dataset = make_dataset(tmp_path / "set", change=change)
    uri = str(dataset.storage.root)
    clips = held_out_clips(uri)
    rows = {}
    for shard in dataset.generation()[1].shards:
        with dataset.clips(shard) as table:
            rows |= {row["clip_id"]: row for row in table.to_pylist()}
    wanted = {clip for clip, row in rows.items() if row["split"] == "heldout" and row["audio"] is not None}
    assert wanted
    assert {clip.content for clip in clips} == wanted
    assert {clip.kind for clip in clips} == {"anna"}
    path = fetch(clips[0], uri, None, tmp_path)
    row = rows[clips[0].content]
    (tmp_path / "silent.mp4").write_bytes(row["video"])
    for ours, stored in zip(read_frames(path), read_frames(tmp_path / "silent.mp4"), strict=True):
        np.testing.assert_array_equal(ours, stored)  # bit for bit the dataset's pictures
    sound = read_video_audio(path)
    np.testing.assert_allclose(sound.samples, decode_sound(row["audio"]), atol=1e-4)
    with pytest.raises(BadInput, match=r"no clip of split 'test'.*heldout.*train"):
        held_out_clips(uri, split="test")
    moved = clips[0].model_copy(update={"row": clips[0].row + 1})
    with pytest.raises(NotFound, match="no longer where it was"):
        fetch(moved, uri, None, tmp_path)


def test_few_clips_are_spread_over_all_of_their_kind():
    clips = [
        HeldClip(name=f"{kind}{k}", kind=kind, content=f"{kind}{k}")
        for kind in ("grid", "news")
        for k in range(9)
    ]
    chosen = spread(clips, 3)
    assert [clip.name for clip in chosen] == ["grid0", "grid3", "grid6", "news0", "news3", "news6"]
    assert len(spread(clips, {"clips": 1, "news": 4})) == 5
    assert spread(clips, 100) == clips
