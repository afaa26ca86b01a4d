"""What a submitter needs: the base install. Everything heavier is made unimportable here, and submitting works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ifmdm_core.storage import S3Config
from tests.jobs.small_store import SmallStore

_WITHOUT = """
import sys

class Missing:
    names = {"torch", "ray", "pyarrow", "numpy", "transformers", "diffusers", "cv2", "av", "PIL", "mlflow", "pandas",
             "fastapi", "starlette", "httpx", "gradio", "safetensors", "cryptography", "prometheus_client", "serve"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""

_SUBMIT = """
import json
from ifmdm_core.storage import S3Config
from jobs.client import JobClient

root, portrait, audio, output, endpoint = sys.argv[1:]
client = JobClient(root, s3=S3Config(endpoint=endpoint, region="us-east-1") if endpoint else None)
done = client.submit(portrait=portrait, audio=audio, output=output, probe=True)
loaded = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps([done.ref.id, client.get(done.ref.id).state.state, loaded]))
"""

_COMMANDS = """
from infra.cli import main

main(sys.argv[1:])
"""


def bare(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs code in a Python that has the base install only."""
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT + code, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(root)}, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_a_submitter_needs_the_base_install_only(
    place: str, tmp_path: Path, s3_config: S3Config, portrait: Path
) -> None:
    if place == "folder":
        small, endpoint = SmallStore(tmp_path / "store"), ""
    else:
        small, endpoint = SmallStore(f"s3://renders/{tmp_path.name}", s3_config), str(s3_config.endpoint)
    small.let_in("default", inputs=(str(small.storage.root), str(portrait.parent)))
    run = bare(
        _SUBMIT, str(small.storage.root), str(portrait), str(portrait.with_name("speech.flac")),
        small.uri("out/a.mp4"), endpoint, cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    id, state, modules = json.loads(run.stdout)
    assert state == "queued"
    assert small.keys(f"jobs/default/{id}/") == [f"jobs/default/{id}/spec.json"]
    assert not {"torch", "ray", "pyarrow", "numpy", "typer", "rich"} & set(modules)
    assert ("boto3" in modules) == (place == "s3")


def test_the_commands_of_submitters_need_the_base_install_only(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "a.wav").write_bytes(b"RIFF____WAVE")
    (tmp_path / "m.csv").write_text("portrait,audio,output\na.png,a.wav,b.mp4\na.png,a.wav,c.mov\n")
    store = ["--root", "store"]
    for arguments, code, says in (
        (["jobs", "--help"], 0, "submit"),
        (["jobs", "init", "store"], 0, "is a job store now"),
        (
            ["jobs", "submit", "--portrait", "a.png", "--audio", "a.wav", "--output", "a.mp4", *store],
            0,
            "is queued",
        ),
        (["jobs", "submit", "--manifest", "m.csv", *store], 2, "1 submitted, 1 refused"),
        (["jobs", "doctor", *store], 0, "is a job store"),
        (["jobs", "schema"], 0, "$schema"),
        (["jobs", "ls", *store], 0, "queued"),
    ):
        run = bare(_COMMANDS, *arguments, cwd=tmp_path)
        assert (run.returncode, says in run.stdout) == (code, True), run.stderr + run.stdout


def test_parquet_says_what_it_needs(tmp_path: Path) -> None:
    SmallStore(tmp_path / "store")
    (tmp_path / "m.parquet").write_bytes(b"PAR1")
    run = bare(_COMMANDS, "jobs", "submit", "--manifest", "m.parquet", "--root", "store", cwd=tmp_path)
    assert run.returncode == 2
    assert "pip install pyarrow" in run.stderr
