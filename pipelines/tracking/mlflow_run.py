"""One MLflow run per training: found by its `train_id`, or made, and told what the training is."""

from __future__ import annotations

import getpass
import hashlib
import json
import logging
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ifmdm_core.errors import Conflict
from ifmdm_core.storage import Storage
from pipelines.tracking.settings import TrackingSettings, artifact_root
from pipelines.tracking.spool import FOLDER
from pipelines.tracking.tracked_run import TrackedInput, TrackedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

TRAIN_ID = "ifmdm.train_id"
SENT = "ifmdm.spool"
"""Tag: the number of the last spool file that the run has whole."""
_DESCRIBED = "ifmdm.described"
_VALUE, _TAG, _DIGEST, _BATCH = 6000, 8000, 36, 100
_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Without it MLflow 3 shows an experiment's traces, not its runs."""
_NAME = re.compile(r"[^\w\-./: ]")
_ENVIRONMENT = {
    # Our own retries know what is idempotent; a request must not hold the sender for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    # Standard output and a training's own progress are not MLflow's.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def open_client(uri: str) -> MlflowClient:
    """A client of the server or database at `uri`; a request waits 30 s and is not repeated unasked."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # tables of a new database, waiting for a version: nobody asked
        logging.getLogger(name).setLevel(logging.WARNING)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def entity_name(name: str) -> str:
    """`name` with what MLflow refuses in names of parameters and metrics replaced."""
    parts = [part for part in _NAME.sub("_", name).split("/") if part not in ("", ".", "..")]
    return "/".join(parts)[:250] or "_"


def find_or_create(
    client: MlflowClient, settings: TrackingSettings, run: TrackedRun, storage: Storage
) -> Run:
    """The training's one MLflow run.

    The first process that has one writes its id into the run's storage; everyone goes by that.

    Raises:
        Conflict: the run or the experiment was deleted in MLflow.
        mlflow.exceptions.MlflowException: the server does not answer.
    """
    assert settings.uri is not None
    key = pin_key(settings.uri)
    pinned = _pinned(storage, key)
    if pinned is None:
        found = _search(client, settings, run)
        made = None if found else _create(client, settings, run)
        mine = found or made
        assert mine is not None
        if storage.put_if_absent(key, mine.info.run_id.encode()):
            return _described(client, mine, run)
        pinned = _pinned(storage, key)
        assert pinned is not None
        if made is not None and pinned != made.info.run_id:
            client.delete_run(made.info.run_id)
    ours = client.get_run(pinned)
    if ours.info.lifecycle_stage == "deleted":
        raise Conflict(
            f"the MLflow run {pinned} of {run.name} was deleted",
            fix=f"restore it in MLflow, or delete {storage.root}/{key} to have a new one",
        )
    return _described(client, ours, run)


def discard_twins(client: MlflowClient, settings: TrackingSettings, run: TrackedRun, run_id: str) -> None:
    """Delete runs of the same training: a creation whose answer was lost can have happened late."""
    for other in _matches(client, settings, run):
        if other.info.run_id != run_id:
            client.delete_run(other.info.run_id)


def pin_key(uri: str) -> str:
    """Where in a run's storage the id of its MLflow run on the server `uri` is."""
    return f"{FOLDER}/mlflow-{hashlib.sha256(uri.encode()).hexdigest()[:8]}.txt"


def experiment_id(client: MlflowClient, settings: TrackingSettings) -> str:
    """The experiment's id; it is made when there is none.

    Raises:
        Conflict: it was deleted.
    """
    from mlflow.exceptions import MlflowException

    assert settings.uri is not None
    found = client.get_experiment_by_name(settings.experiment)
    if found is None:
        try:
            root = artifact_root(settings.uri)
            return str(client.create_experiment(settings.experiment, root, tags=_KIND))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(settings.experiment)
            assert found is not None
    if found.lifecycle_stage == "deleted":
        raise Conflict(
            f"the MLflow experiment {settings.experiment!r} was deleted",
            fix=f"mlflow experiments restore --experiment-id {found.experiment_id}, or set tracking.experiment",
        )
    return str(found.experiment_id)


def _pinned(storage: Storage, key: str) -> str | None:
    return storage.get(key).decode() if storage.info(key) is not None else None


def _search(client: MlflowClient, settings: TrackingSettings, run: TrackedRun) -> Run | None:
    return next(iter(_matches(client, settings, run)), None)


def _matches(client: MlflowClient, settings: TrackingSettings, run: TrackedRun) -> list[Run]:
    wanted = f"tags.`{TRAIN_ID}` = '{run.train_id}'"
    return list(
        client.search_runs([experiment_id(client, settings)], wanted, order_by=["attributes.start_time"])
    )


def _create(client: MlflowClient, settings: TrackingSettings, run: TrackedRun) -> Run:
    tags = {TRAIN_ID: run.train_id, "ifmdm.stage": run.stage, "ifmdm.run": run.uri, "mlflow.user": _user()}
    return client.create_run(
        experiment_id(client, settings), int(1000 * run.created), tags=tags, run_name=run.name
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's number without a name
        return "unknown"


def _described(client: MlflowClient, found: Run, run: TrackedRun) -> Run:
    """Parameters, tags, inputs and files of the beginning, unless it has them: a parameter cannot change later."""
    if _DESCRIBED in found.data.tags:
        return found
    from mlflow.entities import Param, RunTag

    run_id = found.info.run_id
    params = [Param(entity_name(name), value[:_VALUE]) for name, value in run.params.items()]
    for at in range(0, len(params), _BATCH):
        client.log_batch(run_id, params=params[at : at + _BATCH])
    if run.inputs:
        client.log_inputs(run_id, [_dataset(given) for given in run.inputs])
    with tempfile.TemporaryDirectory(prefix="ifmdm-track-") as folder:
        for path in _files(run, Path(folder)):
            client.log_artifact(run_id, str(path))
    tags = {
        **run.tags,
        **_git_tags(run),
        "mlflow.note.content": run.note,
        "mlflow.source.name": f"ifmdm {run.stage}",
    }
    listed = [RunTag(entity_name(name), value[:_TAG]) for name, value in tags.items() if value]
    client.log_batch(run_id, tags=listed[:_BATCH])
    client.set_tag(run_id, _DESCRIBED, "1")
    return found


def _git_tags(run: TrackedRun) -> dict[str, str]:
    if not run.git_commit:
        return {}
    return {"mlflow.source.git.commit": run.git_commit, "git.dirty": str(run.git_dirty).lower()}


def _files(run: TrackedRun, folder: Path) -> list[Path]:
    import yaml

    files = {"config.yaml": yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)}
    if run.git_diff:
        files["git.diff"] = run.git_diff
    for name, text in files.items():
        (folder / name).write_text(text)
    return [folder / name for name in files]


def _dataset(given: TrackedInput) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=given.name[:500],
        digest=given.digest[:_DIGEST],
        source_type="s3" if given.source.startswith("s3://") else "local",
        source=json.dumps({"uri": given.source}),
        profile=json.dumps({**given.profile, "digest": given.digest}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", given.context)])
