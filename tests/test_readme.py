"""What README and the guides tell people to type works, and what they link to is there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from infra import cli

ROOT = Path(__file__).parent.parent
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def _blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_links_lead_somewhere(guide: Path) -> None:
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", guide.read_text())
    missing = [link for link in links if "://" not in link and not (guide.parent / link).exists()]
    assert not missing


def test_the_two_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    targets = re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert {"demo", "test"} <= set(targets)
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)


def test_every_documented_option_exists_and_every_option_is_documented(
    capsys: pytest.CaptureFixture[str],
) -> None:
    documented = set(
        re.findall(r"^\| `(--[a-z-]+)", (ROOT / "docs" / "render.md").read_text(), flags=re.MULTILINE)
    )
    with pytest.raises(SystemExit):
        cli.main(["render", "--help"])
    offered = set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", capsys.readouterr().out, flags=re.MULTILINE))
    assert documented == offered - {"--help", "--output"}


def test_every_command_of_the_readme_exists() -> None:
    named = set(re.findall(r"`?ifmdm ([a-z]+)", (ROOT / "README.md").read_text()))
    assert set(cli.COMMANDS) <= named
    assert named - set(cli.COMMANDS) <= {"implements"}


def test_the_python_of_the_readme_runs(
    tmp_path: Path, tiny_bundle: Path, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wave

    shutil.copy(portrait, tmp_path / "photo.jpg")
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((np.sin(np.arange(8_000) / 9) * 9_000).astype("<i2").tobytes())
    monkeypatch.chdir(tmp_path)
    (code,) = _blocks(ROOT / "README.md", "python")
    exec(compile(code.replace('"demo"', repr(str(tiny_bundle))), "README.md", "exec"), {})
    assert (tmp_path / "out.mp4").stat().st_size > 1_000
