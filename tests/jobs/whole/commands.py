"""`ifmdm …` as a user types it, in processes of its own: commands that end, and workers that go on until told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[3]
PROGRAM = (sys.executable, "-m", "infra.cli")


def ifmdm(*arguments: str, codes: tuple[int, ...] = (0,), wait_s: float = 600) -> str:
    """What the command prints. Raises AssertionError where it ends with another exit code than these."""
    done = subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, text=True, timeout=wait_s, env=_environment(), cwd=ROOT
    )
    assert done.returncode in codes, f"ifmdm {' '.join(arguments)}: {done.returncode}\n{done.stderr[-2000:]}"
    return done.stdout


class WorkProcess:
    """`ifmdm jobs work ROOT …`, its words in `log`; killed when the block ends, if it still runs."""

    def __init__(self, root: str, log: Path, *options: str, env: dict[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [*PROGRAM, "jobs", "work", root, *options], stdout=file, stderr=file, stdin=subprocess.DEVNULL,
                env=_environment(env), cwd=ROOT, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """To that process alone, not to its children."""
        self.process.send_signal(number)

    def wait(self, seconds: float) -> int:
        """Its exit code. Raises AssertionError with its last words where it takes longer."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still works after {seconds} s: {self.last_words()}") from None

    def leave(self, seconds: float = 60) -> int:
        """SIGTERM, as an orchestrator sends it; its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def last_words(self, characters: int = 3000) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-characters:]

    def __enter__(self) -> WorkProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        deadline = time.monotonic() + 10
        try:
            os.killpg(self.pid, signal.SIGKILL)  # also what is left of its children
        except ProcessLookupError:
            return
        self.process.wait(max(0.1, deadline - time.monotonic()))


def _environment(more: dict[str, str] | None = None) -> dict[str, str]:
    return {**os.environ, "PYTHONFAULTHANDLER": "1", **(more or {})}
