"""The chain on storage: every step once, whoever writes, whatever the store answers."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifmdm_core.errors import BadInput, Unavailable
from ifmdm_core.storage import FolderStorage, open_storage
from ifmdm_core.uri import Uri
from pipelines.tracking.entries import Checkpointed, Entry, Status, StepFigures, Validated
from pipelines.tracking.spool import Spool
from pipelines.tracking.tracked_run import flatten


def step(number: int, attempt: int = 0) -> StepFigures:
    return StepFigures(time=1000.0 * attempt + number, step=number, values={"loss": 1 / number})


def steps_in(spool: Spool) -> list[int]:
    return [entry.step for entry in spool.entries() if isinstance(entry, StepFigures)]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_sequence_of_attempts_leaves_every_step_once_with_its_first_time(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    storage = open_storage(tmp_path_factory.mktemp("run"))
    durable, first_told = 0, {}
    for attempt in range(data.draw(st.integers(1, 4))):
        spool = Spool(storage)
        begin = data.draw(st.integers(0, durable))  # a checkpoint never covers what is not durable
        end = begin + data.draw(st.integers(0, 12))
        for number in range(begin + 1, end + 1):
            spool.add([step(number, attempt)])
            if data.draw(st.booleans()):
                spool.flush()
                for told in range(durable + 1, number + 1):
                    first_told[told] = 1000.0 * attempt + told
                durable = max(durable, number)
    found = [entry for entry in Spool(storage).entries() if isinstance(entry, StepFigures)]
    assert [entry.step for entry in found] == list(range(1, durable + 1))
    assert {entry.step: entry.time for entry in found} == first_told


def test_kinds_do_not_hide_each_other_and_nan_survives(tmp_path: Path) -> None:
    spool = Spool(open_storage(tmp_path))
    entries: list[Entry] = [
        step(10),
        Validated(time=1, step=10, values={"a": math.nan, "b": math.inf}, files=("samples/x",)),
        Checkpointed(time=2, step=10, uri="u", sha256="s"),
        Status(time=3, status="FAILED", note="no"),
    ]
    spool.add(entries)
    spool.flush()
    spool.add(entries)  # a restart tells it all again, and that it runs
    spool.flush()
    again = Spool(open_storage(tmp_path))
    found = again.entries()
    assert [entry.kind for entry in found] == ["step", "validation", "checkpoint", "status", "status"]
    assert isinstance(found[1], Validated)
    assert math.isnan(found[1].values["a"])
    assert found[1].values["b"] == math.inf
    assert again.status() == "FAILED"


def test_two_writers_share_one_chain(tmp_path: Path) -> None:
    """A worker that was cut off and its successor, both writing."""
    spools = [Spool(open_storage(tmp_path)) for _ in range(3)]

    def write(spool: Spool) -> None:
        for number in range(1, 61):
            spool.add([step(number)])
            if number % 3 == 0:
                spool.flush()

    threads = [threading.Thread(target=write, args=(spool,)) for spool in spools]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert steps_in(Spool(open_storage(tmp_path))) == list(range(1, 61))


class _Forgetful(FolderStorage):
    """Writes, and then says that it does not know whether it did."""

    def __init__(self, root: Uri) -> None:
        super().__init__(root)
        self.faults = 0

    def put_if_absent(self, key: str, data: bytes) -> bool:
        done = super().put_if_absent(key, data)
        if self.faults:
            self.faults -= 1
            raise Unavailable("the answer was lost", retry_after=0.0)
        return done


def test_an_unknown_outcome_is_read_back(tmp_path: Path) -> None:
    storage = _Forgetful(Uri.parse(tmp_path))
    spool = Spool(storage)
    for number in range(1, 5):
        storage.faults = 1
        spool.add([step(number)])
        spool.flush()
    assert steps_in(Spool(storage)) == [1, 2, 3, 4]
    assert Spool(storage).newest() == 4  # and no file twice


def test_what_a_silent_store_did_not_take_is_kept_for_the_next_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(open_storage(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.retry.MAX_WAIT_S", 0.0)
        patch.setattr(FolderStorage, "put_if_absent", _unavailable)
        spool.add([step(1)])
        with pytest.raises(Unavailable):
            spool.flush()
        spool.add([step(2)])
        assert spool.waiting == 2
    spool.flush()
    assert steps_in(spool) == [1, 2]
    assert spool.waiting == 0


def _unavailable(*_: object) -> bool:
    raise Unavailable("no answer", retry_after=0.0)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    spool = Spool(open_storage(tmp_path))
    spool.add([step(1)])
    spool.flush()
    (tmp_path / "spool" / "00000001.jsonl").write_text("{}\n{broken\n")
    with pytest.raises(BadInput, match=r"00000001.jsonl cannot be read"):
        spool.read(1)


def test_configurations_become_flat_parameters() -> None:
    config = {"fit": {"steps": 3, "minutes": None}, "controls": {"pose": [0, 1]}, "empty": {}, "name": "a"}
    assert flatten(config) == {
        "fit.steps": "3",
        "fit.minutes": "null",
        "controls.pose": "[0, 1]",
        "empty": "{}",
        "name": "a",
    }
