"""The examples of docs/serving.md run as they stand, against a real service."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest

from tests.benchmarks.serve_clients import Inputs

GUIDE = (Path(__file__).parents[3] / "docs" / "serving.md").read_text()
PART = GUIDE.partition("## The API by example")[2].partition("\n## ")[0]
WRITTEN = "http://127.0.0.1:8000"


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", PART, flags=re.DOTALL)
    assert found
    return found


@pytest.fixture
def folder(tmp_path: Path, portrait: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photo.jpg and speech.wav, where the example is run."""
    shutil.copy(portrait, tmp_path / "photo.jpg")
    (tmp_path / "speech.wav").write_bytes(Inputs([1.0]).speeches[1.0])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def require_videos(folder: Path) -> None:
    for path in folder.glob("*.mp4"):
        with av.open(str(path)) as video:
            assert sum(1 for packet in video.demux(video=0) if packet.size) == 25, path.name


@pytest.mark.parametrize("number", range(len(re.findall(r"```bash", PART))))
def test_the_curl_examples(number: int, folder: Path, url: str) -> None:
    script = blocks("bash")[number].replace(WRITTEN, url)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # `python` is this one
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder, capture_output=True, text=True, timeout=300, env={**os.environ, "PATH": path}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    if "-o " in script:
        assert list(folder.glob("*.mp4"))
        require_videos(folder)
    else:
        assert done.stdout.strip()


def test_the_python_example(folder: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    exec(compile(code.replace(WRITTEN, url), "serving.md", "exec"), {})
    require_videos(folder)
    assert (folder / "client.mp4").exists()
    assert "['tiny']" in capsys.readouterr().out
