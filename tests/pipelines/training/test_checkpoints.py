"""Checkpoints in a folder and a bucket: whole or not there, thinned out, never mixed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ifmdm_core.errors import Conflict, Unsupported
from ifmdm_core.storage import S3Config, Storage, open_storage
from pipelines.training.checkpoints import Checkpoints, KeepConfig


@pytest.fixture(params=["folder", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "folder":
        yield open_storage(tmp_path / "run")
    else:
        config: S3Config = request.getfixturevalue("s3_config")
        yield open_storage(f"s3://renders/{tmp_path.name}", config)


def state(step: int, value: float | None = None) -> dict[str, object]:
    weights = torch.full((5, 3), float(step) if value is None else value)
    return {"step": step, "modules": {"net": {"w": weights, "n": torch.tensor(step)}}, "cursor": {"epoch": 1}}


def names(storage: Storage) -> list[str]:
    return [item.key for item in storage.list("checkpoints/")]


def test_what_is_written_is_loaded_and_the_newest_is_found(storage: Storage) -> None:
    kept = Checkpoints(storage)
    assert kept.newest() is None
    kept.write(4, state(4), {"loss": 1.0}, attempt=1)
    written = kept.write(12, state(12), {}, attempt=1)
    found = kept.newest()
    assert found == written
    loaded = kept.load(found)
    assert loaded["step"] == 12
    assert loaded["cursor"] == {"epoch": 1}
    assert torch.equal(loaded["modules"]["net"]["w"], torch.full((5, 3), 12.0))
    assert int(loaded["modules"]["net"]["n"]) == 12


def test_a_checkpoint_without_its_record_does_not_exist_and_is_collected_once_a_later_one_does(
    storage: Storage,
) -> None:
    kept = Checkpoints(storage)
    kept.write(4, state(4), {}, attempt=1)
    storage.put("checkpoints/step-00000008/part-000-12345678.safetensors", b"half")
    storage.put("checkpoints/step-00000016/part-000-12345678.safetensors", b"another is at work")
    assert kept.newest().record.step == 4  # type: ignore[union-attr]
    kept.write(12, state(12), {}, attempt=2)
    kept.thin_out(KeepConfig(keep_last=5))
    assert kept.steps() == [4, 12]
    assert not [name for name in names(storage) if "step-00000008" in name]
    assert [name for name in names(storage) if "step-00000016" in name]


def test_the_second_writer_of_a_step_changes_nothing(storage: Storage) -> None:
    kept = Checkpoints(storage)
    first = kept.write(4, state(4), {}, attempt=1)
    late = kept.write(4, state(4, value=-1.0), {}, attempt=2)
    assert late == first
    assert torch.equal(kept.load(kept.at(4))["modules"]["net"]["w"], torch.full((5, 3), 4.0))
    kept.thin_out(KeepConfig())
    assert len(names(storage)) == 2  # one part and the record: the loser's part is gone


def test_the_last_and_the_best_stay(storage: Storage) -> None:
    kept = Checkpoints(storage)
    for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (4, 5.0), (5, None)):
        kept.write(step, state(step), {} if loss is None else {"loss": loss}, attempt=1)
    gone = kept.thin_out(KeepConfig(keep_last=2, keep_best=1, metric="loss", mode="min"))
    assert gone == [1, 3]
    assert kept.steps() == [2, 4, 5]
    kept.thin_out(KeepConfig(keep_last=1, keep_best=1, metric="loss", mode="max"))
    assert kept.steps() == [4, 5]


def test_damage_is_named_with_both_digests(storage: Storage) -> None:
    kept = Checkpoints(storage)
    written = kept.write(4, state(4), {}, attempt=1)
    ((part, sha256),) = written.record.parts.items()
    storage.put(f"{written.key}/{part}", b"other bytes")
    with pytest.raises(Conflict, match=rf"{part} has sha256 [0-9a-f]{{64}}, its record says {sha256}"):
        kept.load(written)
    storage.delete(f"{written.key}/{part}")
    with pytest.raises(Conflict, match=f"{part} is missing"):
        kept.load(written)


def test_a_later_format_is_refused_by_name(storage: Storage) -> None:
    storage.put("checkpoints/step-00000004/checkpoint.json", b'{"format": 7}')
    with pytest.raises(Unsupported, match="format 7, this program reads 1"):
        Checkpoints(storage).newest()
