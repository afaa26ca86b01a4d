"""The Dockerfile read without Docker: what it copies is there and is sent, arguments are declared, nobody is root."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from infra.kuberay.faults import Fault

INSTRUCTIONS = (
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "LABEL",
    "RUN",
    "USER",
    "WORKDIR",
)
VARIABLE = re.compile(r"\$\{(\w+)[^}]*\}")


@dataclass(frozen=True)
class Instruction:
    """One, on however many lines."""

    line: int
    name: str
    words: list[str]


def instructions(text: str) -> list[Instruction]:
    """Those of a Dockerfile, comments left out."""
    found: list[Instruction] = []
    joined, began = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or not (line.strip() or joined):
            continue
        began = began or number
        if line.endswith("\\"):
            joined += line[:-1] + " "
            continue
        name, *words = (joined + line).split()
        found.append(Instruction(began, name, words))
        joined, began = "", 0
    return found


def image_faults(dockerfile: Path, root: Path, targets: tuple[str, ...] = ("cpu", "cuda")) -> Iterator[Fault]:
    """What is wrong with it; `root` is what Docker would be given, `targets` the values of TARGET."""
    ignored = _ignored(dockerfile.with_name(dockerfile.name + ".dockerignore"))
    stages: list[str] = []
    declared: set[str] = set()
    everywhere: set[str] = set()
    user, begun = "root", False
    for each in instructions(dockerfile.read_text()):
        place = f"line {each.line}"
        if each.name not in INSTRUCTIONS:
            yield Fault(dockerfile.name, place, f"unknown instruction {each.name!r}")
            continue
        if each.name == "FROM":
            user, declared, begun = "root", set(), True
            if len(each.words) > 1:
                stages.append(each.words[-1])
        elif each.name == "ARG":
            (declared if begun else everywhere).add(each.words[0].partition("=")[0])
        elif each.name == "ENV":
            declared |= {word.partition("=")[0] for word in each.words if "=" in word}
        elif each.name == "USER":
            user = each.words[0]
        elif each.name == "COPY":
            yield from _copy_faults(each, dockerfile.name, root, stages, targets, ignored)
        known = {*declared, *everywhere, "PATH"}
        for name in VARIABLE.findall(" ".join(each.words)):
            if name not in known:
                yield Fault(dockerfile.name, place, f"{name} is not declared", f"ARG {name}")
    if user.partition(":")[0] in ("root", "0"):
        yield Fault(dockerfile.name, "USER", "the image runs as root")


def _copy_faults(
    copy: Instruction, file: str, root: Path, stages: list[str], targets: tuple[str, ...], ignored: list[str]
) -> Iterator[Fault]:
    place = f"line {copy.line}"
    sources = [word for word in copy.words if not word.startswith("--")][:-1]
    stage = next((word.partition("=")[2] for word in copy.words if word.startswith("--from=")), None)
    if stage is not None:
        if stage not in stages:
            yield Fault(file, place, f"there is no stage {stage!r}", f"valid: {', '.join(stages)}")
        return
    for source in {name.replace("${TARGET}", target) for name in sources for target in targets}:
        if not (root / source).exists():
            yield Fault(file, place, f"there is no {source!r} to copy")
        elif not any(source == allowed or source.startswith(f"{allowed}/") for allowed in ignored):
            yield Fault(
                file,
                place,
                f"{source!r} is not sent to Docker",
                f"add !{source.split('/')[0]} to {file}.dockerignore",
            )


def _ignored(path: Path) -> list[str]:
    """What an ignore file of the form «everything but these» lets through."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    if lines[:1] != ["*"]:
        raise ValueError(f"{path.name} must begin with *, and then name what is sent")
    return [line[1:] for line in lines if line.startswith("!") and not fnmatch(line, "*[*]*")]
