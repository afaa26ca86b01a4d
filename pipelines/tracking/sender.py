"""Tells MLflow what a spool holds, file by file, so that telling something twice changes nothing."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ifmdm_core.errors import NotFound
from pipelines.tracking import mlflow_run
from pipelines.tracking.entries import Checkpointed, Entry, Exported, Status, StepFigures, Validated
from pipelines.tracking.settings import TrackingSettings
from pipelines.tracking.spool import Spool

if TYPE_CHECKING:
    from mlflow import MlflowClient

METRICS = 1000
"""Metrics of one request; a server takes no more, and takes or refuses them together."""
_TABLE = "validation.json"


class Sender:
    """Sends a spool to the server of `settings`. Every call goes on where the server says it stopped.

    Figures carry the times of the spool, so a request whose outcome is unknown is simply made again: MLflow's key of
    a metric is (run, name, step, time, value). Files keep their names, tags their last value.
    """

    def __init__(self, spool: Spool, settings: TrackingSettings) -> None:
        self.run_id: str | None = None
        self.sent = 0
        """Number of the last spool file that the server has whole, as far as known."""
        self._spool, self._settings = spool, settings
        self._client: MlflowClient | None = None

    def send(self) -> None:
        """Send everything that is on storage and not on the server.

        Raises:
            Anything that MLflow, the network or the store raises; call again.
        """
        try:
            client, run_id = self._connect()
            for number in range(self.sent + 1, self._spool.newest() + 1):
                self._deliver(client, run_id, number, self._spool.read(number))
                self.sent = number
        except BaseException:
            self._client = None  # what the server has is asked anew
            raise

    def close(self) -> None:
        """Last look at the server: no other run has this training's id."""
        client, run_id = self._connect()
        mlflow_run.discard_twins(client, self._settings, self._spool.run(), run_id)

    def _connect(self) -> tuple[MlflowClient, str]:
        if self._client is None:
            assert self._settings.uri is not None
            client = mlflow_run.open_client(self._settings.uri)
            run = mlflow_run.find_or_create(client, self._settings, self._spool.run(), self._spool.storage)
            self.run_id = run.info.run_id
            self.sent = int(client.get_run(run.info.run_id).data.tags.get(mlflow_run.SENT, 0))
            self._client = client
        assert self.run_id is not None
        return self._client, self.run_id

    def _deliver(self, client: MlflowClient, run_id: str, number: int, entries: list[Entry]) -> None:
        from mlflow.entities import Metric, RunTag

        tags = {mlflow_run.SENT: str(number)}
        metrics: list[Any] = []
        ended: Status | None = None
        for entry in entries:
            if isinstance(entry, Status):
                ended = entry
                continue
            tags |= self._files(client, run_id, entry)
            values = _figures(entry)
            if len(metrics) + len(values) > METRICS:  # a step is never torn
                client.log_batch(run_id, metrics=metrics)
                metrics = []
            when = int(1000 * entry.time)
            metrics += [Metric(name, value, when, entry.step) for name, value in values.items()]
        if ended is not None:
            tags |= {"ifmdm.note": ended.note[:8000]}
            _set_status(client, run_id, ended)
        client.log_batch(run_id, metrics=metrics, tags=[RunTag(k, v) for k, v in tags.items()])

    def _files(self, client: MlflowClient, run_id: str, entry: Entry) -> dict[str, str]:
        """Send the files of an entry; returns the tags that go with it."""
        if isinstance(entry, Validated):
            problems = [self._copy(client, run_id, key) for key in entry.files]
            _add_row(client, run_id, entry)
            lost = "; ".join(problem for problem in problems if problem)
            return {f"ifmdm.lost.{entry.step}": lost[:8000]} if lost else {}
        if isinstance(entry, Checkpointed):
            client.log_dict(run_id, entry.model_dump(), f"checkpoints/step-{entry.step:08d}.json")
            return {
                "checkpoint.uri": entry.uri,
                "checkpoint.sha256": entry.sha256,
                "checkpoint.step": str(entry.step),
            }
        if isinstance(entry, Exported):
            client.log_dict(run_id, entry.model_dump(), "result.json")
            return {"result.uri": entry.uri, "result.sha256": json.dumps(entry.sha256)[:8000]}
        return {}

    def _copy(self, client: MlflowClient, run_id: str, key: str) -> str:
        """One file from run storage to the server; says why it never can, "" when it was done."""
        folder, _, name = key.rpartition("/")
        with tempfile.TemporaryDirectory(prefix="ifmdm-track-") as scratch:
            path = Path(scratch) / name
            try:
                self._spool.storage.fetch(key, path)
            except NotFound:
                return f"{key} is gone from the run's storage"
            try:
                client.log_artifact(run_id, str(path), folder or None)
            except Exception as error:
                status = getattr(getattr(error, "response", None), "status_code", None)
                if status is None or status < 400 or status >= 500 or status in (401, 403, 408, 429):
                    raise
                return f"{key} was refused: {error}"  # such as 413: figures must not wait behind it for ever
        return ""


def _figures(entry: StepFigures | Validated | Checkpointed | Exported) -> dict[str, float]:
    if isinstance(entry, StepFigures | Validated):
        group = "train" if isinstance(entry, StepFigures) else "val"
        return {mlflow_run.entity_name(f"{group}/{name}"): value for name, value in entry.values.items()}
    return {}


def _set_status(client: MlflowClient, run_id: str, status: Status) -> None:
    if status.status == "RUNNING":
        client.update_run(run_id, status.status)
    else:
        client.set_terminated(run_id, status.status, int(1000 * status.time))


def _add_row(client: MlflowClient, run_id: str, entry: Validated) -> None:
    """The entry as a row of the run's validation table, in place of an older row of its step."""
    if not entry.values:
        return
    rows = [row for row in _rows(client, run_id) if row["step"] != entry.step]
    rows = sorted([*rows, {"step": entry.step, **entry.values}], key=lambda row: row["step"])
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = {"columns": names, "data": [[row.get(name) for name in names] for row in rows]}
    client.log_dict(run_id, table, _TABLE)
    client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps([{"path": _TABLE, "type": "table"}]))


def _rows(client: MlflowClient, run_id: str) -> Iterable[dict[str, Any]]:
    if not any(item.path == _TABLE for item in client.list_artifacts(run_id)):
        return []
    with tempfile.TemporaryDirectory(prefix="ifmdm-track-") as folder:
        table = json.loads(Path(client.download_artifacts(run_id, _TABLE, folder)).read_bytes())
    return [dict(zip(table["columns"], values, strict=True)) for values in table["data"]]
