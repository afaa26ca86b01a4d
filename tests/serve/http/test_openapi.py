"""The API does what its OpenAPI says, whatever is sent: schemathesis over every operation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serve.gateways import Gateways

FORMS = "^/v1/(render|identities)$"


@pytest.fixture(scope="module")
def address(gateways: Gateways) -> tuple[str, str]:
    """Where a gateway describes itself, and its admin's token."""
    path, tokens = gateways.tokens(boss={"scopes": ["admin"]})
    gateway = gateways.start(f"gateway.tokens={path}", "gateway.limits.streams=20")
    return f"{gateway.url}/openapi.json", tokens["boss"]


@pytest.mark.parametrize(
    "choice",
    [
        ["--phases", "examples,coverage"],
        ["--phases", "fuzzing", "--exclude-path-regex", FORMS],
        # Of forms with files it can only make right ones ("Unsupported type: 'Binary'").
        ["--phases", "fuzzing", "--include-path-regex", FORMS, "--mode", "positive"],
    ],
    ids=["examples and corner cases", "whatever", "forms"],
)
def test_every_operation_does_what_it_says(
    address: tuple[str, str], choice: list[str], tmp_path: Path
) -> None:
    url, token = address
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", url, "-H", f"Authorization: Bearer {token}",
            "--max-examples", "20", "--generation-deterministic", "--request-timeout", "60", "--no-color",
            # What it sends as a picture or sound is none, so a refusal of a well-formed request is no finding.
            "--exclude-checks", "positive_data_acceptance", *choice,
        ],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "Tested:" in done.stdout
