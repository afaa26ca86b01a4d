"""What README and the guides tell people to type is what the programs take, and what they link to is there.

Nothing is run here: every command goes through the real command line up to the moment where it would begin, every
block of commands or Python says which test runs it or why none does, every link within the repository leads somewhere.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra import cli
from tests.docs import checks
from tests.docs.documents import ROOT, names, read


@pytest.mark.parametrize("name", names())
def test_every_command_is_one(name: str) -> None:
    assert not list(checks.command_faults(read(name)))


@pytest.mark.parametrize("name", names())
def test_every_block_is_run_by_a_test_or_says_why_not(name: str) -> None:
    assert not list(checks.mark_faults(read(name)))


@pytest.mark.parametrize("name", names())
def test_every_link_leads_somewhere(name: str) -> None:
    assert not list(checks.link_faults(read(name)))


@pytest.mark.parametrize("name", names())
def test_every_name_is_there(name: str) -> None:
    assert not list(checks.name_faults(read(name)))


def test_every_guide_is_reached_from_the_readme() -> None:
    found, todo = {"README.md"}, ["README.md"]
    while todo:
        document = read(todo.pop())
        for _, link in document.links:
            path = ((ROOT / document.name).parent / link.partition("#")[0]).resolve()
            if path.suffix == ".md" and path.is_relative_to(ROOT):
                name = path.relative_to(ROOT).as_posix()
                if name not in found:
                    found.add(name)
                    todo.append(name)
    assert set(names()) <= found


def test_every_picture_is_shown_somewhere() -> None:
    shown = {Path(link).name for name in names() for _, link in read(name).links}
    pictures = {path.name for ext in ("png", "jpg", "svg") for path in (ROOT / "docs").rglob(f"*.{ext}")}
    assert pictures <= shown


def test_the_readme_has_every_command_and_begins_with_the_two() -> None:
    readme = read("README.md")
    named = {word for _, code in readme.code for word in code.split()[:2]}
    assert set(cli.COMMANDS) <= named
    lines = [line.split("#")[0].strip() for line in readme.blocks[0].text.splitlines()]
    assert lines == ["make demo", "make test"]
    assert len(readme.text.splitlines()) <= 200


def test_every_option_of_render_is_in_its_table_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    documented = set(re.findall(r"^\| `(--[a-z-]+)", read("docs/render.md").text, flags=re.M))
    with pytest.raises(SystemExit):
        cli.main(["render", "--help"])
    offered = set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", capsys.readouterr().out, flags=re.M))
    assert documented == offered - {"--help", "--output"}
