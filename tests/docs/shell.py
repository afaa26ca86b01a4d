"""Shell text to the commands in it, without running anything."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

SHELLS = ("bash", "sh", "shell", "console")
_KNOWN = """
    ifmdm make python python3 python3.11 pip playwright mlflow ray
    curl git docker kubectl kustomize helm aws cosign openssl jq ip crontab
    bash cat cd cp echo export grep kill ls mkdir rm sleep source unset
"""
KNOWN = frozenset(_KNOWN.split())
"""Programs that a document may name; a word that is none of them is taken for a typing error."""

_PREFIXES = {"sudo", "time", "nohup", "nice", "env", "do", "then", "else", "!"}
_KEYWORDS = {"for", "while", "if", "done", "fi", "case", "esac", "{", "}", "true", "in"}
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


def is_shell(language: str, text: str) -> bool:
    """Whether a block is for a shell: it says so, or says nothing and has a line that begins with a program."""
    if language:
        return language in SHELLS
    firsts = (
        line.split()[0] for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    )
    return any(first in KNOWN for first in firsts)


def commands(text: str, line: int = 1) -> Iterator[tuple[int, list[str]]]:
    """(line, words) of every simple command: pipes, lists, `$(…)` and redirections taken apart.

    Raises:
        ValueError: a quotation that does not end.
    """
    for at, joined in _logical_lines(text, line):
        lexer = shlex.shlex(joined, posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        words: list[str] = []
        skip = False
        for token in lexer:
            if skip:
                skip = False
            elif set(token) <= set("<>&") and set(token) & set("<>"):
                skip = True  # what follows is a file
            elif set(token) <= set("();<>|&"):
                yield from _simple(at, words)
                words = []
            else:
                words.append(token)
        yield from _simple(at, words)


def _simple(at: int, words: list[str]) -> Iterator[tuple[int, list[str]]]:
    while words and (_ASSIGNMENT.match(words[0]) or words[0] in _PREFIXES or words[0] == "$"):
        if words[0] == "nice" and words[1:2] == ["-n"]:
            words = words[2:]
        words = words[1:]
    if words and words[0] not in _KEYWORDS:
        yield at, words


def _logical_lines(text: str, line: int) -> Iterator[tuple[int, str]]:
    """Lines, where one that ends with a backslash or within quotation marks goes on in the next."""
    held, at = "", line
    for number, part in enumerate(text.splitlines(), line):
        held, at = (held + part, at) if held else (part, number)
        if held.endswith("\\"):
            held = held[:-1] + " "
            continue
        try:
            shlex.split(held, comments=True)
        except ValueError:
            held += "\n"
            continue
        yield at, held
        held = ""
    if held:
        raise ValueError(f"line {at}: a quotation or a command that does not end")
