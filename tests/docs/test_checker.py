"""The checks bite: a document, or the command line, is broken on purpose, and the fault is named with its line."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from infra import cli
from tests.docs import checks
from tests.docs.documents import Document, read
from tests.docs.shell import commands

Check = Callable[[Document], Iterator[str]]


def broken(name: str, old: str, new: str) -> Document:
    """The document as it is, with one thing changed."""
    text = read(name).text
    assert old in text
    return Document(name, text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("docs/jobs.md", "work --until-done", "work --until-dome", "did you mean '--until-done'"),
        ("docs/jobs.md", "ifmdm jobs results", "ifmdm jobs result", "did you mean 'results'"),
        ("docs/jobs.md", "`ifmdm jobs ls`", "`ifmdm jobs list`", "unknown command 'list'"),
        ("docs/jobs.md", "`suspend`, `resume`", "`suspend`, `resmue`", "did you mean 'resume'"),
        ("docs/jobs.md", "`--dry-run` checks", "`--dryrun` checks", "no command has the option --dryrun"),
        ("docs/datasets.md", "face_size=96 --sound", "face_size=96 --sond", "did you mean '--sound'"),
        ("docs/datasets.md", "`data ls DATASET`", "`data lst DATASET`", "lst"),
        ("docs/datasets.md", "--keep-manifests 1", "--keep-manifests one", "invalid value"),
        ("docs/training.md", "configs/demo/motion.yaml", "configs/demo/moton.yaml", "no configs/demo/moton.yaml"),
        ("docs/provenance.md", "ifmdm verify out.mp4", "ifmdm verfy out.mp4", "did you mean 'verify'"),
        ("docs/performance.md", "serve_load --clients", "serve_load --client-count", "unrecognized arguments"),
        ("docs/performance.md", "tests.benchmarks.serve_load", "tests.benchmarks.serve_lode", "no module"),
        ("docs/serving.md", "--set root=s3://bucket/prefix", "--sett root=x", "did you mean '--set'"),
        ("docs/serving.md", "curl -sS", "crul -sS", "'crul' is no program"),
        ("docs/serving.md", "  - {name: web-shop,", "  - {name: web-shop", "line 2"),
        ("docs/render.md", "head.render(", "head.render((", "never closed"),
        ("README.md", "\nmake demo ", "\nmake demmo ", "no target 'demmo'"),
    ],
)  # fmt: skip
def test_a_broken_command_is_named(name: str, old: str, new: str, says: str) -> None:
    (fault, *_) = checks.command_faults(broken(name, old, new))
    assert fault.startswith(f"{name}")
    assert says in fault


def test_a_renamed_option_breaks_the_documents_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()

    @app.command()
    def verify(file: Path, authority: Path | None = None, json: bool = False) -> None:
        pass

    module = types.ModuleType("renamed")
    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "renamed", module)
    monkeypatch.setitem(cli.COMMANDS, "verify", ("renamed", "with --trust called --authority"))
    (fault,) = checks.command_faults(read("docs/provenance.md"))
    assert "unknown option '--trust'" in fault


def test_a_removed_command_breaks_the_documents_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(cli.COMMANDS, "verify")
    assert any("unknown command 'verify'" in fault for fault in checks.command_faults(read("README.md")))


@pytest.mark.parametrize(
    ("check", "text", "says"),
    [
        (checks.mark_faults, "```\nifmdm doctor\n```\n", "x.md:2: put <!-- run by"),
        (checks.mark_faults, "```python\nprint()\n```\n", "put <!-- run by"),
        (checks.mark_faults, "<!-- not run: no -->\n```\nifmdm doctor\n```\n", "is no reason"),
        (checks.mark_faults, "<!-- run by: tests/none.py::test_x -->\n```\nifmdm doctor\n```\n", "no test file"),
        (
            checks.mark_faults,
            "<!-- run by: tests/docs/test_checker.py::test_none -->\n```\nifmdm doctor\n```\n",
            "has no test 'test_none'",
        ),
        (checks.mark_faults, "<!-- not run: no reason needed -->\n```text\nhello\n```\n", "nothing to run"),
        (checks.link_faults, "[a](nowhere.md)", "no such file"),
        (checks.link_faults, "[a](README.md#nowhere)", "README.md has no such heading"),
        (checks.link_faults, "# One\n[a](#two)", "x.md has no such heading"),
        (checks.link_faults, "[a](../elsewhere)", "no such file"),
        (checks.link_faults, "[a](https://nowhere)", "no address"),
        (checks.link_faults, '<img src="none.png">', "no such file"),
        (checks.name_faults, "`serve/nothing.py`", "no such file"),
        (checks.name_faults, "`serve.flow.Nothing`", "Nothing"),
        (checks.name_faults, "set `$IFMDM_NOTHING`", "nothing reads IFMDM_NOTHING"),
    ],
)  # fmt: skip
def test_a_broken_mark_link_or_name_is_told(check: Check, text: str, says: str) -> None:
    (fault,) = check(Document("x.md", text))
    assert says in fault


def test_a_test_that_never_reads_the_document_runs_none_of_it() -> None:
    other = "tests/docs/test_documents.py::test_every_command_is_one"
    text = f"<!-- run by: {other} -->\n```\nifmdm doctor\n```\n"
    assert any("never reads" in fault for fault in checks.mark_faults(Document("docs/other.md", text)))


def test_what_is_right_has_no_fault() -> None:
    text = (
        "# A: `b` (c)\n\n[a](#a-b-c) [b](LICENSE) [c](docs/jobs.md#the-protocol) <https://example.com>\n\n"
        "`ifmdm jobs cancel`, `suspend` and `ifmdm render PHOTO AUDIO -o OUT.mp4`, `data ls DATASET`, `--seed N`, "
        "`ifmdm train speech | motion`, `jobs/<tenant>/x.json`, `serve.flow`, `python -m tests.crash.schedules`\n\n"
        "<!-- not run: an example of a checker -->\n```\nexport IFMDM_JOBS=here   # a store\n"
        "ifmdm jobs init && ifmdm jobs ls \\\n  --json > jobs.json\ncurl -s $(echo x) | jq .\n```\n"
    )
    assert checks.every_fault(Document("x.md", text)) == []


def test_shell_text_is_taken_apart() -> None:
    text = "A=1 x 'b c' | y; z --o \\\n  p  # no\nd=$(e f 2>/dev/null)\ng \"h\ni\" > j\n"
    assert list(commands(text)) == [
        (1, ["x", "b c"]), (1, ["y"]), (1, ["z", "--o", "p"]), (3, ["e", "f", "2"]), (4, ["g", "h\ni"]),
    ]  # fmt: skip
