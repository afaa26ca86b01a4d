"""What MLflow has of a training, looked up in its database, after servers and trainings were killed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest

from ifmdm_core.errors import NotFound
from ifmdm_core.storage import S3Config, open_storage
from pipelines.tracking.mlflow_run import open_client
from pipelines.tracking.settings import TrackingSettings
from pipelines.tracking.tracker import end_run, sync
from tests.mlflow_server import LossyProxy, MlflowServer
from tests.pipelines.tracking.pretend_training import figures, train


def assert_every_step_once(server: MlflowServer, train_id: str, steps: int) -> str:
    """Returns the run's id."""
    [run_id] = server.runs(train_id)
    found = server.steps(run_id)
    assert set(found) == {f"train/{name}" for name in figures(1)}
    for key, counts in found.items():
        assert set(counts) == set(range(1, steps + 1)), f"{key}: steps are missing"
        assert set(counts.values()) == {1}, f"{key}: {counts.most_common(3)}"
    values = dict(
        server.rows("select step, value from metrics where run_uuid = ? and key = 'train/lips'", run_id)
    )
    assert values == {step: figures(step)["lips"] for step in range(1, steps + 1)}
    return run_id


def quick(uri: str) -> TrackingSettings:
    return TrackingSettings(uri=uri, flush_s=0.1)


def test_a_run_says_what_it_is_and_how_it_went(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    train_id = uuid4().hex
    report = train(open_storage(tmp_path), quick(mlflow_server.uri), train_id, 20, 10)
    assert report is not None
    assert report.complete, report
    run_id = assert_every_step_once(mlflow_server, train_id, 20)
    assert run_id == report.run_id

    client = open_client(mlflow_server.uri)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["optimiser.lr"] == "0.0001"
    assert run.data.params["start"] == "null"
    assert len(run.data.params["text"]) == 6000  # the whole of it is in config.yaml
    assert run.data.tags["mlflow.source.git.commit"] == "c" * 40
    assert run.data.tags["dataset.manifest"] == "3"
    assert run.data.tags["checkpoint.step"] == "20"
    assert run.data.metrics["val/r"] == 1.0
    inputs = {given.dataset.name: given.dataset for given in run.inputs.dataset_inputs}
    assert inputs["set"].digest == "5" * 36
    assert json.loads(inputs["set"].profile) == {"clips": 12, "digest": "5" * 64}

    def text(path: str) -> str:
        return Path(client.download_artifacts(run_id, path, str(tmp_path))).read_text()

    assert "x" * 7000 in text("config.yaml")
    assert text("git.diff") == "--- a\n+++ b\n"
    assert text("samples/step-00000010/look.txt") == "sample of 10"
    assert json.loads(text("checkpoints/step-00000010.json"))["sha256"] == "d" * 64
    table = json.loads(text("validation.json"))
    assert [row[table["columns"].index("r")] for row in table["data"]] == [0.5, 1.0]


def test_a_training_is_one_run_with_every_step_once_however_often_it_is_broken_off(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    train_id, chance = uuid4().hex, random.Random(4)
    for _ in range(
        4
    ):  # steps between the checkpoint and the break were told to the server and are made again
        train(
            open_storage(tmp_path),
            quick(mlflow_server.uri),
            train_id,
            60,
            20,
            0.01,
            until=chance.randint(1, 59),
        )
        time.sleep(0.3)
    report = train(open_storage(tmp_path), quick(mlflow_server.uri), train_id, 60, 20)
    assert report is not None
    assert report.complete, report
    run_id = assert_every_step_once(mlflow_server, train_id, 60)
    assert mlflow_server.steps(run_id, "val/")["val/r"] == {20: 1, 40: 1, 60: 1}


def test_a_server_that_is_down_from_the_start_is_told_everything_later(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    train_id = uuid4().hex
    mlflow_server.kill()
    report = train(open_storage(tmp_path), quick(mlflow_server.uri), train_id, 30, 10, patience_s=0.5)
    assert report is not None
    assert report.sent == 0
    assert report.pending > 0
    assert "refused" in report.problem or "Max retries" in report.problem
    still_down = sync(open_storage(tmp_path), quick(mlflow_server.uri))
    assert still_down.pending == report.pending

    mlflow_server.start()
    for _ in range(2):  # a second time changes nothing
        assert sync(open_storage(tmp_path), quick(mlflow_server.uri)).complete
        run_id = assert_every_step_once(mlflow_server, train_id, 30)
        assert open_client(mlflow_server.uri).get_run(run_id).info.status == "FINISHED"


def test_a_server_killed_in_the_middle_and_back_again_has_it_all(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    train_id = uuid4().hex

    def disturb() -> None:
        time.sleep(0.7)
        mlflow_server.kill()
        time.sleep(0.5)
        mlflow_server.start(wait=False)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    report = train(open_storage(tmp_path), quick(mlflow_server.uri), train_id, 150, 50, step_s=0.01)
    disturber.join()
    assert report is not None
    assert report.complete, report
    assert_every_step_once(mlflow_server, train_id, 150)


def test_a_training_killed_between_two_steps_goes_on_in_its_run(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    train_id, chance = uuid4().hex, random.Random(11)
    module = "tests.pipelines.tracking.pretend_training"
    command = [
        sys.executable, "-m", module, str(tmp_path), mlflow_server.uri, train_id, "100", "25", "0.01",
    ]  # fmt: skip
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        spool = tmp_path / "spool"
        before = len(list(spool.glob("*.jsonl")))
        while len(list(spool.glob("*.jsonl"))) < before + 2 and process.poll() is None:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["pending"] == 0
    assert_every_step_once(mlflow_server, train_id, 100)


@pytest.mark.parametrize(
    ("path", "within", "times"),
    [
        ("runs/create", b"", 1),  # what was done is found, so there is no second
        ("runs/log-batch", b"optimiser.lr", 2),
        ("runs/log-batch", b"train/loss", 2),
        ("runs/set-tag", b"ifmdm.described", 1),
        ("runs/log-inputs", b"", 2),
    ],
)
def test_an_answer_that_is_lost_doubles_nothing(
    mlflow_server: MlflowServer, tmp_path: Path, path: str, within: bytes, times: int
) -> None:
    train_id = uuid4().hex
    with LossyProxy(mlflow_server) as proxy:
        proxy.lose, proxy.only, proxy.within = 2, path, within
        report = train(open_storage(tmp_path), quick(proxy.uri), train_id, 30, 10)
        assert report is not None
        assert report.complete, report
        assert len(proxy.lost) == times
    assert_every_step_once(mlflow_server, train_id, 30)


def test_training_and_sync_at_once_share_one_run(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    train_id = uuid4().hex
    mine = quick(mlflow_server.uri)
    train(open_storage(tmp_path), TrackingSettings(), train_id, 40, 10, until=35)  # told nobody so far
    threads = [threading.Thread(target=sync, args=(open_storage(tmp_path), mine)) for _ in range(3)]
    for thread in threads:
        thread.start()
    report = train(open_storage(tmp_path), mine, train_id, 40, 10)
    for thread in threads:
        thread.join()
    assert report is not None
    assert report.complete, report
    assert_every_step_once(mlflow_server, train_id, 40)


def test_runs_in_a_bucket_are_told_from_there(mlflow_server: MlflowServer, s3_config: S3Config) -> None:
    train_id = uuid4().hex
    storage = open_storage(f"s3://renders/runs/{train_id}", s3_config)
    report = train(storage, quick(mlflow_server.uri), train_id, 10, 5)
    assert report is not None
    assert report.complete, report
    assert_every_step_once(mlflow_server, train_id, 10)


def test_a_deleted_run_is_not_made_again_behind_ones_back(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    train_id = uuid4().hex
    report = train(open_storage(tmp_path), quick(mlflow_server.uri), train_id, 10, 5)
    assert report is not None
    assert report.run_id is not None
    open_client(mlflow_server.uri).delete_run(report.run_id)
    again = sync(open_storage(tmp_path), quick(mlflow_server.uri))
    assert "was deleted" in again.problem
    assert mlflow_server.runs(train_id) == []


def test_a_driver_ends_what_its_workers_could_not(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    train_id, storage, mine = uuid4().hex, open_storage(tmp_path), quick(mlflow_server.uri)
    train(storage, mine, train_id, 20, 10, until=15)
    end_run(storage, mine, "FAILED", "workers were lost")
    while not sync(storage, mine).complete:  # the tracker's thread lives on here, and may tell a little more
        time.sleep(0.1)
    client = open_client(mlflow_server.uri)
    run = client.get_run(mlflow_server.runs(train_id)[0])
    assert (run.info.status, run.data.tags["ifmdm.note"]) == ("FAILED", "workers were lost")
    report = train(storage, mine, train_id, 20, 10)
    assert report is not None
    assert end_run(storage, mine, "FAILED", "too late").complete
    run = client.get_run(assert_every_step_once(mlflow_server, train_id, 20))
    assert (run.info.status, run.data.tags["ifmdm.note"]) == ("FINISHED", "")


def test_a_folder_without_a_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no tracked training"):
        sync(open_storage(tmp_path), TrackingSettings())
