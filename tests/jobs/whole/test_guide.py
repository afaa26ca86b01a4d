"""What docs/jobs.md tells people to type works, as it stands there."""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput
from infra.commands.jobs import COMMANDS
from jobs.commands.app import run

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "jobs.md").read_text()


def test_the_five_commands_render_a_manifest(tmp_path: Path, portrait: Path) -> None:
    shutil.copy(portrait, tmp_path / "ann.jpg")
    for number in (1, 2):
        with wave.open(str(tmp_path / f"ann-{number}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes(os.urandom(number * 6_400))
    rows = [
        {
            "portrait": f"{tmp_path}/ann.jpg",
            "audio": f"{tmp_path}/ann-{n}.wav",
            "output": f"{tmp_path}/out/{n}.mp4",
        }
        for n in (1, 2)
    ]
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    (block,) = re.findall(r"```\n(export IFMDM_JOBS.*?)```", GUIDE, flags=re.DOTALL)
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert [line[:3] for line in lines[1:]] == [
        ["ifmdm", "jobs", word] for word in ("init", "submit", "work", "results")
    ]
    env = {**os.environ, "IFMDM_JOBS": str(tmp_path / "jobs")}
    for line in lines[1:]:
        # Ray has tests of its own; here the networks are in the worker's process.
        words = [*line[1:], "--local"] if line[2] == "work" else line[1:]
        done = subprocess.run(
            [sys.executable, "-m", "infra.cli", *words],
            cwd=tmp_path, env={**env, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}: {done.stderr[-2000:]}"
    found = list(csv.DictReader(done.stdout.splitlines()))
    assert [row["state"] for row in found] == ["published", "published"]
    assert all(Path(row["output"]).stat().st_size > 1_000 for row in rows)


def test_the_guide_knows_every_command_and_no_other() -> None:
    table = GUIDE[GUIDE.index("| command |") :].split("\n\n")[0]
    named = {word for code in re.findall(r"`([^`]*)`", table) for word in code.split() if word.islower()}
    named |= set(re.findall(r"ifmdm jobs ([a-z]+)", GUIDE))
    assert {word for word in named if word.isalpha()} - {"ifmdm", "jobs"} == set(COMMANDS)


@pytest.mark.parametrize("line", re.findall(r"`ifmdm jobs ([a-z]+[^`]*--[^`]*)`", GUIDE))
def test_every_option_of_the_guide_exists(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    command, *words = shlex.split(line)
    run(COMMANDS, [command, "--help"], "ifmdm jobs", False)
    offered = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert {word for word in words if word.startswith("--")} <= offered


def test_a_command_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadInput, match="did you mean 'submit'"):
        run(COMMANDS, ["sumbit"], "ifmdm jobs", False)
