"""What the documents hold: fenced blocks with their marks, code within sentences, links and headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n`]*\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S
)
_MARK = re.compile(r"<!-- (?P<kind>run by|not run): (?P<what>(?:(?!-->).)+?) -->\s*\Z", re.S)
_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_LINK = re.compile(r"\]\(([^()\s]+(?:\([^()\s]*\))?)\)|<(?:img|a)\b[^>]*?(?:src|href)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.M)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, its language as written ("" if none), its text, and what its mark says."""

    line: int
    """of its first line of text, from 1"""
    language: str
    text: str
    run_by: str | None = None
    """tests/….py::test"""
    not_run: str | None = None
    """why it is not run"""


@dataclass(frozen=True)
class Document:
    """A Markdown file.

    Args:
        name: path from the root of the repository, with slashes.
    """

    name: str
    text: str

    @property
    def blocks(self) -> list[Block]:
        found = []
        for match in _FENCE.finditer(self.text):
            mark = _MARK.search(self.text[: match.start()])
            said = {mark["kind"]: " ".join(mark["what"].split())} if mark else {}
            line = self.text.count("\n", 0, match.start("text")) + 1
            text = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.M)
            found.append(Block(line, match["language"], text, said.get("run by"), said.get("not run")))
        return found

    @property
    def prose(self) -> str:
        """The text without what is in blocks; lines keep their numbers."""
        return _FENCE.sub(lambda match: "\n" * match[0].count("\n"), self.text)

    @property
    def code(self) -> list[tuple[int, str]]:
        """(line, words) of all code within sentences and tables; a line break in it is a blank."""
        prose = self.prose
        return [
            (prose.count("\n", 0, match.start()) + 1, " ".join(match[1].replace(r"\|", "|").split()))
            for match in _CODE.finditer(prose)
        ]

    @property
    def links(self) -> list[tuple[int, str]]:
        """(line, target) of links and pictures."""
        prose = _CODE.sub(lambda match: " " * len(match[0]), self.prose)
        return [
            (prose.count("\n", 0, match.start()) + 1, match[1] or match[2]) for match in _LINK.finditer(prose)
        ]

    @property
    def anchors(self) -> set[str]:
        """What `#…` may name: GitHub's names of the headings."""
        found: set[str] = set()
        for heading in _HEADING.findall(self.prose):
            plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
            name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
            count = next(n for n in range(99) if (f"{name}-{n}" if n else name) not in found)
            found.add(f"{name}-{count}" if count else name)
        return found

    def block(self, words: str) -> Block:
        """The only block that has `words` in it."""
        (found,) = (block for block in self.blocks if words in block.text)
        return found


def read(name: str) -> Document:
    """The document at `name`, a path from the root."""
    return Document(name, (ROOT / name).read_text())


def names() -> list[str]:
    """Every document for people: those at the top, in docs/, and beside what is deployed."""
    found = [*TOP, *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").glob("**/*.md")))]
    return found + [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "infra").glob("**/*.md"))]
