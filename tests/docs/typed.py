"""Runs a block of a document as somebody would type it, in the folder that is current.

`ifmdm` runs in this process, which spares importing torch for every line; all else goes through bash.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from infra import cli
from tests.docs.documents import Block
from tests.docs.shell import commands


def run_shell(block: Block, changes: Mapping[str, str] | None = None) -> list[str]:
    """Runs a block of commands one after the other; what each printed. Fails at the first that does not end with 0.

    Args:
        changes: texts of the block to write otherwise, such as places that are a test's own. Each must occur.
    """
    printed = []
    for _, words in commands(_changed(block.text, changes)):
        program = Path(words[0]).name
        if program == "export":
            os.environ.update(word.split("=", 1) for word in words[1:])
            continue
        code, said = run_ifmdm(*words[1:]) if program == "ifmdm" else _run_other(words)
        assert code == 0, f"{' '.join(words)} ended with {code}:\n{said}"
        printed.append(said)
    return printed


def run_ifmdm(*words: str) -> tuple[int, str]:
    """`ifmdm …`: its exit code, and what it printed; where it failed, what it said about that."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(words)
        except SystemExit as end:
            code = int(end.code or 0)
            return code, out.getvalue() if code == 0 else err.getvalue()
    raise AssertionError("cli.main returned")


def run_python(block: Block, changes: Mapping[str, str] | None = None) -> str:
    """Runs a block of Python; what it printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(_changed(block.text, changes), "document", "exec"), {})
    return out.getvalue()


def _run_other(words: list[str]) -> tuple[int, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "PATH": path}
    )
    return done.returncode, done.stdout + done.stderr


def _changed(text: str, changes: Mapping[str, str] | None) -> str:
    for old, new in (changes or {}).items():
        assert old in text, f"the block has no {old!r} any more"
        text = text.replace(old, new)
    return text
