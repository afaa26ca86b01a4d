"""Which code a training ran: commit and difference of the working tree."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

LARGEST = 1_000_000
"""Characters of a difference that are kept."""


class GitState(BaseModel):
    """Empty when the code is not in a git repository (an installed wheel)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    commit: str = ""
    dirty: bool = False
    diff: str = Field("", description="tracked files against the commit, then names of untracked ones")

    @property
    def diff_sha256(self) -> str:
        """Digest of the difference, "" when there is none."""
        return hashlib.sha256(self.diff.encode()).hexdigest() if self.diff else ""


def git_state(folder: str | Path | None = None) -> GitState:
    """State of the repository around `folder`; by default around this package."""
    where = Path(folder) if folder is not None else Path(__file__).parent
    commit = _git(where, "rev-parse", "HEAD").strip()
    if not commit:
        return GitState()
    top = Path(_git(where, "rev-parse", "--show-toplevel").strip())
    diff = _git(top, "diff", "HEAD")
    untracked = _git(top, "ls-files", "--others", "--exclude-standard").split("\n")
    extra = "".join(f"# untracked: {name}\n" for name in untracked if name)
    whole = diff + extra
    return GitState(commit=commit, dirty=bool(whole), diff=whole[:LARGEST])


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, errors="replace", timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""
