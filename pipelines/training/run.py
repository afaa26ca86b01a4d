"""A training run as it lies in storage: what was asked for, on which data, from which code.

    <runs>/<name>/run.json                     create-only; without it there is no run
                  start/<file>-<sha8>.<ext>    what was fitted before step 0
                  attempts/00000001/...        who trains it, wishes, progress
                  checkpoints/ steps/ samples/ result/

Everything is written through `Storage`, so a run is the same on a folder and in a bucket.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ifmdm_core.errors import BadInput, Conflict, NotFound, Unavailable, Unsupported
from ifmdm_core.provenance import sha256_of_file
from ifmdm_core.storage import S3Config
from pipelines.run.patient_storage import PatientStorage
from pipelines.training.git_state import GitState

RUN_FORMAT = 1


class DataRecord(BaseModel):
    """The data of a run, pinned: a dataset that grows later does not change what a resumed run reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = Field(description="folder or s3://bucket/prefix")
    manifest: int = Field(description="number of the manifest that is read")
    content: str = Field(description="digest of the manifest's shards")
    generation: str = Field(description="of the clips")
    speech: str | None = Field(None, description="digest of the speech features")
    motion: str | None = Field(None, description="digest of the motion features")
    motion_encoder: str | None = Field(None, description="digest of the encoder that made them")
    speech_encoder: str | None = Field(
        None, description="digest of the encoder that made the speech features"
    )
    selection: str | None = Field(None, description="its name")
    selection_key: str | None = Field(None, description="of its file, with the digest in it")
    split: str | None = Field(None, description="what is trained on")
    clips: int = Field(description="clips that are trained on")
    frames: int = Field(description="their frames")
    held_out: int = Field(0, description="clips that are validated on")


class StartFile(BaseModel):
    """Something that a run starts from, kept with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    sha256: str


class RunRecord(BaseModel):
    """run.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = RUN_FORMAT
    name: str
    train_id: str = Field(description="32 hex digits; finds the run in MLflow")
    stage: str
    created: str = Field(description="UTC")
    config: dict[str, Any] = Field(description="resolved configuration")
    data: DataRecord
    git: GitState
    versions: dict[str, str] = Field(default_factory=dict, description="of the packages that matter")
    start: dict[str, StartFile] = Field(default_factory=dict, description="by file name")
    parents: dict[str, str] = Field(
        default_factory=dict, description="what it was started from: name -> digest"
    )


class RunFolder:
    """One run's files."""

    def __init__(self, uri: str, storage: PatientStorage) -> None:
        self.uri, self.storage = uri, storage

    @classmethod
    def at(cls, uri: str, s3: S3Config | None = None) -> RunFolder:
        """A run by its whole URI, whether or not it exists."""
        return cls(uri.rstrip("/"), PatientStorage.open(uri.rstrip("/"), s3))

    @property
    def name(self) -> str:
        return PurePosixPath(self.uri).name

    def exists(self) -> bool:
        """Whether there is a run (a folder without run.json is none)."""
        return self.storage.info("run.json") is not None

    def create(self, record: RunRecord) -> None:
        """Write run.json.

        Raises:
            Conflict: there is a run of that name.
        """
        data = record.model_dump_json(indent=1).encode()
        try:
            won = self.storage.put_if_absent("run.json", data)
        except Unavailable:
            time.sleep(0.2)
            won = self.exists() and self.record().train_id == record.train_id
        if not won:
            raise Conflict(
                f"there is a run {self.uri} already",
                fix="give another --name, or continue it: ifmdm train resume",
            )

    def record(self) -> RunRecord:
        """What run.json says.

        Raises:
            NotFound: no run here. Unsupported: of another format. BadInput: not readable.
        """
        try:
            values = json.loads(self.storage.get("run.json"))
        except NotFound:
            raise NotFound(
                f"{self.uri} is no training run: it has no run.json", fix="ifmdm train ls RUNS"
            ) from None
        except ValueError as error:
            raise BadInput(f"{self.uri}/run.json is not JSON: {error}") from None
        found = values.get("format") if isinstance(values, dict) else None
        if found != RUN_FORMAT:
            raise Unsupported(
                f"{self.uri} has run format {found!r}, this program reads {RUN_FORMAT}", fix="update ifmdm"
            )
        try:
            return RunRecord.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise BadInput(f"{self.uri}/run.json: {where}: {first['msg']}") from None

    def put_start(self, folder: Path) -> dict[str, StartFile]:
        """Upload the files of a local folder; their keys carry their digests, so racing writers do no harm."""
        kept: dict[str, StartFile] = {}
        for path in sorted(folder.iterdir()):
            sha256 = sha256_of_file(path)
            key = f"start/{path.stem}-{sha256[:8]}{path.suffix}"
            self.storage.upload(key, path)
            kept[path.name] = StartFile(key=key, sha256=sha256)
        return kept

    def fetch_start(self, record: RunRecord, folder: Path) -> None:
        """Bring them back under their names.

        Raises:
            Conflict: a file is not what the run was started with.
        """
        for name, file in record.start.items():
            self.storage.fetch(file.key, folder / name)
            found = sha256_of_file(folder / name)
            if found != file.sha256:
                raise Conflict(
                    f"{self.uri}/{file.key} has sha256 {found}, the run was started with {file.sha256}",
                    fix="it is damaged: restore it, or start a new run",
                )


def list_runs(uri: str, s3: S3Config | None = None) -> Iterator[RunFolder]:
    """The runs directly under a folder or prefix, by name."""
    root = uri.rstrip("/")
    for item in PatientStorage.open(root, s3).list():
        name, slash, rest = item.key.partition("/")
        if slash and rest == "run.json":
            yield RunFolder.at(f"{root}/{name}", s3)
