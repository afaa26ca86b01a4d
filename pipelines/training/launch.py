"""Begins and continues trainings: what `ifmdm train` and the Python API call."""

from __future__ import annotations

import platform
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

from ifmdm_core.config import read_mapping, set_value, validate
from ifmdm_core.errors import BadInput, Conflict
from ifmdm_core.storage import S3Config
from pipelines.dataset.manifest import utc_now
from pipelines.tracking.spool import Spool
from pipelines.training.config import TrainingConfig, WorkersConfig
from pipelines.training.data import open_dataset, survey
from pipelines.training.driver import Launch, drive, joined
from pipelines.training.git_state import git_state
from pipelines.training.process import Job
from pipelines.training.progress import TrainingProgress
from pipelines.training.result import ResultRecord, read_result
from pipelines.training.run import DataRecord, RunFolder, RunRecord
from pipelines.training.stage import Facts, Materials, Stage, say_nothing
from pipelines.training.stages import stage_named
from pipelines.training.tracked import tracked_run

PACKAGES = ("ifmdm", "torch", "numpy", "transformers", "ray", "pyarrow")
"""Their versions are kept with a run."""


@dataclass(frozen=True)
class Preflight:
    """A training that may start: what can be known to be wrong beforehand is not."""

    stage: Stage
    config: TrainingConfig
    data: DataRecord
    facts: Facts
    s3: S3Config | None = None


@dataclass(frozen=True)
class TrainingResult:
    """A finished training."""

    run: str
    """Its folder or s3:// prefix."""
    record: ResultRecord
    progress: dict[str, Any]
    """The last that was told of it."""

    @property
    def weights(self) -> str:
        """Where the exported weights are: a file, or the folder of a speech encoder."""
        first = sorted(self.record.sha256)[0]
        name = first.split("/")[0]
        return f"{self.run}/result/{name}"

    def summary(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {"run": self.run, "weights": self.weights, **self.record.model_dump(mode="json")}

    def __repr__(self) -> str:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in sorted(self.record.metrics.items()))
        return f"TrainingResult({self.run!r}, {self.record.step} steps" + (
            f"; {figures})" if figures else ")"
        )

    def _repr_html_(self) -> str:
        rows = {"run": self.run, "step": self.record.step, "weights": self.weights, **self.record.metrics}
        cells = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows.items())
        return f"<table>{cells}</table>"


def read_config(
    stage: Stage, config: str | Path | Mapping[str, Any] | TrainingConfig, overrides: Sequence[str] = ()
) -> TrainingConfig:
    """A stage's configuration from a file or values, with `a.b=c` overrides, all paths absolute.

    Raises:
        NotFound: no such file. BadInput: an unknown setting or a bad value, named.
    """
    if isinstance(config, TrainingConfig):
        values, where = config.dumped(), "config"
    elif isinstance(config, Mapping):
        values, where = _copied(config), "config"
    else:
        values, where = read_mapping(config), str(config)
    for override in overrides:
        set_value(values, override)
    named = values.pop("stage", stage.name)
    if named != stage.name:
        raise BadInput(
            f"{where}: stage is {named!r}, and this is a training of {stage.name}",
            fix=f"run ifmdm train {named} with it",
        )
    return validate(stage.config, values, where).anchored()


def preflight(stage: Stage, config: TrainingConfig, s3: S3Config | None = None) -> Preflight:
    """Look at everything that a training needs, before any worker starts.

    Raises:
        NotFound: a dataset, feature set, split or model is missing. Conflict: digests do not match. BadInput:
        weights do not fit the configuration.
    """
    data = survey(config.data, stage.needs, s3)
    return Preflight(stage, config, data, stage.check(config, data, s3), s3)


def run_folder(ready: Preflight, name: str | None = None) -> RunFolder:
    """Where the run will lie; its name is made up from stage and time unless given.

    Raises:
        Conflict: there is a run of that name. BadInput: the name is none.
    """
    made = f"{ready.stage.name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
    named = name or made
    if not named.replace("-", "").replace("_", "").replace(".", "").isalnum() or named[0] == ".":
        raise BadInput(f"run name {named!r} is no plain name", fix="use letters, digits, - _ and .")
    run = RunFolder.at(f"{ready.config.runs}/{named}", ready.s3)
    if run.exists():
        raise Conflict(
            f"there is a run {run.uri} already", fix="give another --name, or continue it: ifmdm train resume"
        )
    return run


def begin(ready: Preflight, name: str | None = None, say: Callable[[str], None] = say_nothing) -> RunFolder:
    """Create the run: fit what must be fitted, write down what is asked for.

    Args:
        say: told what is about to take a while.

    Raises:
        Conflict: there is a run of that name.
    """
    from ifmdm_core.one_thread import one_thread

    stage, config = ready.stage, ready.config
    run = run_folder(ready, name)
    state, diff = git_state()
    with tempfile.TemporaryDirectory(prefix="ifmdm-start-") as folder:
        with one_thread():  # what is fitted is the same whoever fits it
            stage.prepare(Materials(config, ready.data, Path(folder), ready.s3, say))
        record = RunRecord(
            name=run.name, train_id=uuid4().hex, stage=stage.name, created=utc_now(), config=config.dumped(),
            data=ready.data, git=state, versions=_versions(), start=run.put_start(Path(folder)),
            parents=ready.facts.parents,
        )  # fmt: skip
    run.create(record)
    Spool(run.storage).describe(tracked_run(run, record, diff))
    return run


def train(
    stage: str | Stage,
    config: str | Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    name: str | None = None,
    launch: Launch | None = None,
    s3: S3Config | None = None,
    quiet: bool = False,
) -> TrainingResult:
    """Train a stage from its beginning to its result.

    Args:
        stage: "speech", "autoencoder" or "motion".
        config: a YAML or JSON file, or its values.
        overrides: settings such as "fit.steps=100".
        name: of the run; made up from stage and time by default.
        launch: where; a Ray cluster that is started here by default.
        quiet: show no progress.

    Raises:
        What `read_config`, `preflight` and `drive` raise.
    """
    chosen = stage_named(stage) if isinstance(stage, str) else stage
    values = read_config(chosen, config, overrides)
    where = launch or Launch()
    with TrainingProgress(chosen.name, quiet) as progress:
        progress.say(f"looking at {values.data.dataset}")
        ready = preflight(chosen, values, s3)
        run_folder(ready, name)  # a bad name is told before a cluster starts
        with joined(where, values.workers, progress.say):
            return _driven(begin(ready, name, progress.say), chosen, values, where, s3, progress)


def resume(
    run: str,
    *,
    workers: int | tuple[int, int] | None = None,
    launch: Launch | None = None,
    s3: S3Config | None = None,
    quiet: bool = False,
    stage: Stage | None = None,
) -> TrainingResult:
    """Go on with a run from its newest checkpoint, with the configuration and the data that it was begun with.

    Args:
        run: its folder or s3:// prefix.
        workers: how many this time; as before by default.
        stage: None finds it by its name in the run.

    Raises:
        NotFound: no such run, or its data are gone. Busy: it is being trained. What `drive` raises.
    """
    from pipelines.training.config import absolute

    folder = RunFolder.at(absolute(run), s3)
    record = folder.record()
    chosen = stage or stage_named(record.stage)
    config = validate(chosen.config, record.config, f"{folder.uri}/run.json: config")
    if workers is not None:
        values = {**config.workers.model_dump(), "count": workers}
        changed = {**config.dumped(), "workers": validate(WorkersConfig, values, "--workers").model_dump()}
        config = validate(chosen.config, changed, "--workers")
    open_dataset(record.data, s3)
    where = launch or Launch()
    with (
        TrainingProgress(chosen.name, quiet) as progress,
        nullcontext() if read_result(folder) else joined(where, config.workers, progress.say),
    ):
        return _driven(folder, chosen, config, where, s3, progress)


def _driven(
    run: RunFolder,
    stage: Stage,
    config: TrainingConfig,
    launch: Launch,
    s3: S3Config | None,
    progress: TrainingProgress,
) -> TrainingResult:
    progress.call(f"{stage.name} {run.name}")
    record = read_result(run) or drive(run, Job(stage, run.uri, 0, config, s3), launch, progress)
    return TrainingResult(run.uri, record, progress.last)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in values.items()}
