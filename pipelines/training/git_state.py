"""Which code trains: commit and uncommitted changes of the checkout that this package lies in, if it lies in one."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

MAX_DIFF = 2_000_000
"""Characters of a diff that are kept."""


class GitState(BaseModel):
    """The commit, and whether the files were others than that."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    commit: str | None = Field(None, description="None outside a checkout")
    dirty: bool = False
    diff_sha256: str | None = Field(None, description="of the uncommitted changes")


def git_state(folder: Path | None = None) -> tuple[GitState, str]:
    """The state and the text of the uncommitted changes ("" for none) of the checkout around `folder`."""
    here = folder or Path(__file__).parent
    commit = _git(here, "rev-parse", "HEAD")
    if commit is None:
        return GitState(), ""
    diff = _git(here, "diff", "HEAD") or ""
    sha256 = hashlib.sha256(diff.encode()).hexdigest() if diff else None
    return GitState(commit=commit.strip(), dirty=bool(diff), diff_sha256=sha256), diff[:MAX_DIFF]


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, errors="replace", timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
