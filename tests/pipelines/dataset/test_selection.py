"""Thresholds, rights, duplicates, splits, offsets: each decides as it says, from columns alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifmdm_core.errors import BadInput, NotFound
from pipelines.dataset.columns import read_columns
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.selection import (
    COLUMNS,
    Selection,
    build_selection,
    common_offset,
    is_outdated,
    load_selection,
    save_selection,
)

LIFTED = {"face_size": -np.inf, "sharpness": -np.inf}


def rows_of(dataset: Dataset) -> list[dict[str, Any]]:
    shards = dataset.generation()[1].shards
    return [row for shard in shards for row in read_columns(dataset, shard, COLUMNS).to_pylist()]


def test_every_clip_is_counted_once_by_its_first_reason(dataset: Dataset) -> None:
    selection = build_selection(dataset, "sharp", minimum={"sharpness": 200}, needs_sound=True)
    rows = rows_of(dataset)
    assert sum(selection.counts.values()) == len(rows) == 12
    assert selection.counts["no sound"] == sum(row["loudness"] is None for row in rows)
    kept = [row for row in rows if selection.refusal(row) is None]
    assert kept
    assert all(row["sharpness"] >= 200 and row["face_size"] >= 64 for row in kept)
    assert len(kept) == sum(n for reason, n in selection.counts.items() if reason.startswith("kept:"))


def test_a_threshold_on_a_column_without_value_refuses_nothing(dataset: Dataset) -> None:
    loud = build_selection(dataset, "loud", minimum={"loudness": 0, "face_size": 0, "sharpness": 0})
    kept = [row for row in rows_of(dataset) if loud.refusal(row) is None]
    assert kept
    assert all(row["loudness"] is None for row in kept)


def test_of_copies_the_smallest_id_that_passes_is_kept(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    def alike(row: dict[str, Any]) -> dict[str, Any]:
        small = row["clip_id"][0] in "01234567"
        return {**row, "fingerprint": bytes(range(64)), "face_size": 30.0 if small else 200.0}

    dataset = make_dataset(tmp_path / "alike", features=(), change=alike)
    selection = build_selection(dataset, "one", minimum={"sharpness": 0})
    rows = rows_of(dataset)
    kept = [row["clip_id"] for row in rows if selection.refusal(row) is None]
    assert kept == [min(row["clip_id"] for row in rows if row["face_size"] > 64)]
    assert set(selection.duplicates.values()) == set(kept)


def test_rights_that_are_not_allowed_or_not_known_are_refused(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    rights = {"anna": "CC BY 4.0", "ben": "research", "chioma": None}
    dataset = make_dataset(
        tmp_path / "set", features=(), change=lambda row: {**row, "rights": rights[row["identity"]]}
    )
    selection = build_selection(dataset, "free", rights=["CC BY 4.0"], minimum=LIFTED)
    assert selection.counts["rights research"] == selection.counts["rights unknown"] == 4
    assert {row["identity"] for row in rows_of(dataset) if not selection.refusal(row)} == {"anna"}
    assert (
        len([row for row in rows_of(dataset) if build_selection(dataset, "all", minimum=LIFTED).refusal(row)])
        == 0
    )


@given(st.integers(0, 1000), st.text(min_size=1, max_size=8))
def test_a_person_is_in_one_split_with_everything(seed: int, person: str) -> None:
    selection = Selection(name="s", generation="g", seed=seed, heldout_share=0.5)
    rows = [{"split": None, "identity": person, "source": f"{k}.mp4"} for k in range(5)]
    assert len({selection.split_of(row) for row in rows}) == 1
    assert selection.split_of({**rows[0], "split": "val"}) == "val"


def test_the_held_out_share_is_about_what_was_asked_for() -> None:
    selection = Selection(name="s", generation="g", heldout_share=0.2)
    splits = [selection.split_of({"split": None, "identity": None, "source": str(k)}) for k in range(2000)]
    assert 330 < splits.count("heldout") < 470


def test_the_offset_of_a_folder_is_what_its_confident_clips_agree_on() -> None:
    agreeing = [(0.08, 0.3)] * 9 + [(0.4, 0.1), (-0.36, 0.1)]
    assert common_offset(agreeing) == 0.08
    assert common_offset(agreeing[:7]) is None  # too few
    assert common_offset([(0.04 * k, 0.2) for k in range(-10, 11)]) is None  # all over the place
    assert common_offset([(0.0, 0.1)] * 10 + [(0.12, 0.5)] * 9) == 0.12  # weighed by confidence


def test_offsets_go_by_folder(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "set", shards=6, clips=8, frames=25, features=())
    selection = build_selection(dataset, "all")
    assert selection.offset_of("anna/other.mp4") == pytest.approx(0.08, abs=0.01)
    assert selection.offset_of("unknown/other.mp4") is None


def test_a_selection_is_stored_found_and_knows_when_it_is_outdated(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    dataset = make_dataset(tmp_path / "set", features=())
    selection = build_selection(dataset, "good", seed=3)
    saved = save_selection(save_selection(dataset, build_selection(dataset, "good")), selection)
    assert list(saved.manifest.selections) == ["good"]
    assert load_selection(saved, "good") == selection
    assert not is_outdated(saved, selection)
    more = make_dataset(tmp_path / "set", shards=4, features=())
    assert is_outdated(more, load_selection(more, "good"))
    with pytest.raises(NotFound, match="it has good"):
        load_selection(more, "better")


def test_wrong_names_are_refused(dataset: Dataset) -> None:
    with pytest.raises(BadInput, match="did you mean 'sharpness'"):
        build_selection(dataset, "x", minimum={"sharpnes": 1})
    for name in ("", "a/b", "..", ".x", "a b"):
        with pytest.raises(BadInput, match="plain name"):
            build_selection(dataset, name)


def test_columns_come_as_they_are_asked_for(dataset: Dataset) -> None:
    with pytest.raises(NotFound, match="no clip shard"):
        read_columns(dataset, "00099", COLUMNS)
    assert read_columns(dataset, "00000", ["clip_id", "size"]).column_names == ["clip_id", "size"]
