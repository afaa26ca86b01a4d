"""The stack's folder: where what one machine's stack keeps and writes lies.

ifmdm-local/
  stack.json    what was started; gone when nothing runs
  serve.yaml    the service's settings, as resolved
  logs/         one file for each service, and the one before it
  bucket/       jobs/ (the job store), in/ and out/ beside it
  service/      identities, finished files, the route
  mlflow/       its database and files      models/  registered bundles      ray-token
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from ifmdm_core.errors import Busy, Conflict, Forbidden, Unsupported
from infra.stack.state import VERSION, StackState

VARIABLE = "IFMDM_HOME"
NAME = "ifmdm-local"
"""Of the folder, where the command is run, unless another is named."""
_DATA = ("bucket", "service", "mlflow", "models", "demo", "logs", "ray-token", "serve.yaml")


class Home:
    """One such folder; nothing is made before `make`."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self.bucket, self.logs = self.folder / "bucket", self.folder / "logs"
        self.service, self.mlflow = self.folder / "service", self.folder / "mlflow"
        self.models, self.token = self.folder / "models", self.folder / "ray-token"
        self.serve_config = self.folder / "serve.yaml"
        self._state = self.folder / "stack.json"

    @classmethod
    def find(cls, given: str | Path | None = None) -> Home:
        """As given, as $IFMDM_HOME says, or `ifmdm-local` here."""
        return cls(given or os.environ.get(VARIABLE) or NAME)

    def log(self, service: str) -> Path:
        """Where a service writes what it has to say."""
        return self.logs / f"{service}.log"

    def make(self) -> None:
        """The folder with what is in it. Raises Forbidden."""
        try:
            for folder in (self.logs, self.bucket, self.service, self.mlflow, self.models):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Forbidden(
                f"{self.folder}: cannot be made ({error.strerror})", fix="choose another with --home DIR"
            ) from None

    def read(self) -> StackState | None:
        """What was started here; None: nothing. Raises Conflict for a damaged file, Unsupported."""
        try:
            text = self._state.read_text()
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            state = StackState.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "JSON"
            if where == "version":
                raise Unsupported(
                    f"{self._state} is of another version than {VERSION}",
                    fix="end that stack with the ifmdm that started it",
                ) from None
            raise Conflict(
                f"{self._state} is damaged: {where}: {first['msg']}",
                fix="end what still runs (see logs/), then delete the file",
            ) from None
        return state

    def write(self, state: StackState) -> None:
        """Atomically: a killed writer leaves the one before."""
        fresh = self._state.with_suffix(".fresh")
        fresh.write_text(state.model_dump_json(indent=1))
        fresh.replace(self._state)

    def forget(self) -> None:
        """Nothing runs here any more."""
        self._state.unlink(missing_ok=True)

    def remove_data(self) -> None:
        """Everything that stacks keep here; what others put beside it stays, and with it the folder."""
        for name in _DATA:
            path = self.folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        (self.folder / ".lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One command at a time changes a stack. Raises Busy where another does, Forbidden."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / ".lock").open("w")
        except OSError as error:
            raise Forbidden(
                f"{self.folder}: cannot be written ({error.strerror})", fix="choose another with --home DIR"
            ) from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(
                    f"another ifmdm up, down or demo is at work on {self.folder}", fix="wait until it is done"
                ) from None
            yield
