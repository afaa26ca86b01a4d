"""Draws docs/pictures/architecture.svg from the imports: rooms, their packages, and who imports whom.

python -m tests.docs.architecture     # after a change of what imports what; a test compares
"""

from __future__ import annotations

import textwrap
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import grimp

from tests.docs.documents import ROOT

PICTURE = ROOT / "docs" / "pictures" / "architecture.svg"
OWN = "modules"
KERNEL = "kernel"
LEGEND = (
    "Arrows and coloured chips: imports of another room. Grey: parts of the same room; “modules” are those that are in "
    "no folder. No arrow goes up; import-linter checks that."
)

WIDTH, GUTTER, PAD = 1240, 46, 14
LINE, TITLE = 15, 30
LETTER = 6.1
"""Pixels of a letter at 11 px, about."""


@dataclass(frozen=True)
class Room:
    """A top-level package and where it stands in the picture."""

    name: str
    about: str
    colour: str
    """of its frame, and of the chips of those who import it"""
    tint: str
    x: int
    width: int
    columns: int


_LEFT = (WIDTH - 2 * GUTTER) * 11 // 20 - GUTTER // 2
_RIGHT = WIDTH - 2 * GUTTER - _LEFT - GUTTER
ROOMS = {
    room.name: room
    for room in (
        Room("infra", "puts the rooms together: commands, service, stack, cluster", "#6b4fa0", "#f4f0fb", GUTTER,
             WIDTH - 2 * GUTTER, 5),
        Room("pipelines", "datasets, trainings, evaluations, models", "#a0612a", "#fdf5ec", GUTTER, _LEFT, 3),
        Room("jobs", "durable renders in a bucket", "#2b7a4b", "#eef8f1", GUTTER + _LEFT + GUTTER, _RIGHT, 3),
        Room("serve", "renders over HTTP", "#b23a5b", "#fdf0f3", GUTTER + _LEFT + GUTTER, _RIGHT, 3),
        Room("ifmdm_core", "the model and its media; needs no other room", "#2c5f9e", "#eef4fb", GUTTER,
             WIDTH - 2 * GUTTER, 4),
    )
}  # fmt: skip

Uses = dict[str, dict[str, set[str]]]
"""room -> part -> what it imports: parts of the same room by name, other rooms as "room/"."""


def imports() -> Uses:
    """Which part of which room imports what, from the sources."""
    graph = grimp.build_graph(*ROOMS, cache_dir=None)
    kernel = _kernel()
    packages = {".".join(name.split(".")[:2]) for name in graph.modules if name.count(".") > 1}
    packages |= {
        name for name in graph.modules if name.count(".") == 1 and (ROOT / name.replace(".", "/")).is_dir()
    }

    def place(module: str) -> tuple[str, str]:
        room, _, rest = module.partition(".")
        name = ".".join(module.split(".")[:2])
        if name in kernel:
            return room, KERNEL
        return room, rest.split(".")[0] if name in packages else OWN

    found: Uses = {room: defaultdict(set) for room in ROOMS}
    for module in sorted(graph.modules):
        if module in ROOMS:
            continue
        room, part = place(module)
        found[room][part].update()
        for other in graph.find_modules_directly_imported_by(module):
            there, what = place(other)
            if there != room:
                found[room][part].add(f"{there}/")
            elif what != part and other not in ROOMS:
                found[room][part].add(what)
    return found


def draw(found: Uses) -> str:
    """The picture, as SVG; the same imports give the same text."""
    shapes: list[str] = []
    heights = {name: _height(ROOMS[name], found[name]) for name in ROOMS}
    top = 64
    tops = {"infra": top}
    tops["pipelines"] = tops["jobs"] = top + heights["infra"] + GUTTER
    tops["serve"] = tops["jobs"] + heights["jobs"] + GUTTER
    middle = max(heights["pipelines"], heights["jobs"] + GUTTER + heights["serve"])
    heights["pipelines"] = middle
    heights["serve"] = middle - heights["jobs"] - GUTTER
    tops["ifmdm_core"] = tops["pipelines"] + middle + GUTTER
    for name, room in ROOMS.items():
        shapes += _room(room, found[name], tops[name], heights[name])
    shapes += _arrows(found, tops, heights)
    height = tops["ifmdm_core"] + heights["ifmdm_core"] + 20
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="11">'
    )
    arrow = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>'
    )
    return "\n".join(
        [
            head,
            arrow,
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            _text(GUTTER, 28, "Who imports whom", 17, "bold"),
            _text(GUTTER, 48, LEGEND, 12, fill="#444"),
            *shapes,
            "</svg>\n",
        ]
    )  # fmt: skip


def main() -> None:
    """Writes the picture."""
    PICTURE.write_text(draw(imports()))
    print(PICTURE)


def _kernel() -> frozenset[str]:
    """The modules that the contract in pyproject.toml calls the kernel."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (kernel,) = (contract for contract in contracts if contract["name"].startswith("the kernel"))
    return frozenset(kernel["source_modules"])


def _order(parts: dict[str, set[str]]) -> list[str]:
    """Who imports many before who is imported by many; the kernel last."""
    imported = {part: sum(part in uses for uses in parts.values()) for part in parts}

    def key(part: str) -> tuple[bool, int, str]:
        inside = sum(other in parts for other in parts[part])
        return part == KERNEL, imported[part] - inside, part

    return sorted(parts, key=key)


def _lines(part: str, uses: set[str], width: float) -> list[str]:
    if part == KERNEL:
        return textwrap.wrap(
            ", ".join(sorted(name.partition(".")[2] for name in _kernel())), int((width - 16) / LETTER)
        )
    inside = sorted(name for name in uses if not name.endswith("/"))
    return textwrap.wrap(", ".join(inside), int((width - 16) / LETTER)) if inside else []


def _rows(room: Room, parts: dict[str, set[str]]) -> tuple[float, list[list[str]]]:
    """Width of a box, and the parts row by row."""
    names = _order(parts)
    width = (room.width - 2 * PAD - (room.columns - 1) * 8) / room.columns
    return width, [names[at : at + room.columns] for at in range(0, len(names), room.columns)]


def _box_height(part: str, uses: set[str], width: float) -> int:
    chips = any(name.endswith("/") for name in uses)
    return 26 + LINE * len(_lines(part, uses, width)) + (22 if chips else 0) + 4


def _height(room: Room, parts: dict[str, set[str]]) -> int:
    width, rows = _rows(room, parts)
    return TITLE + PAD + sum(max(_box_height(part, parts[part], width) for part in row) + 8 for row in rows)


def _room(room: Room, parts: dict[str, set[str]], top: int, height: int) -> list[str]:
    shapes = [
        f'<rect x="{room.x}" y="{top}" width="{room.width}" height="{height}" rx="8" fill="{room.tint}" '
        f'stroke="{room.colour}" stroke-width="1.5"/>',
        _text(room.x + PAD, top + 21, f"{room.name}/", 15, "bold", room.colour),
        _text(room.x + PAD + 16 + 10 * len(room.name), top + 21, room.about, 12, fill="#444"),
    ]
    width, rows = _rows(room, parts)
    y = top + TITLE + 2
    for row in rows:
        tall = max(_box_height(part, parts[part], width) for part in row)
        for column, part in enumerate(row):
            shapes += _box(room, part, parts[part], room.x + PAD + column * (width + 8), y, width, tall)
        y += tall + 8
    return shapes


def _box(room: Room, part: str, uses: set[str], x: float, y: int, width: float, height: int) -> list[str]:
    own = part in (OWN, KERNEL)
    dashed = ' stroke-dasharray="4 3"' if part == OWN else ""
    shapes = [
        f'<rect x="{x:.0f}" y="{y}" width="{width:.0f}" height="{height}" rx="5" fill="#fff" stroke="{room.colour}" '
        f'stroke-opacity="0.45"{dashed}/>',
        _text(x + 8, y + 18, part if own else f"{part}/", 12.5, "bold"),
    ]
    for number, line in enumerate(_lines(part, uses, width)):
        shapes.append(_text(x + 8, y + 34 + LINE * number, line, 11, fill="#666"))
    at, under = x + 8, y + height - 22
    for name in (name for name in ROOMS if f"{name}/" in uses):
        label = "core" if name == "ifmdm_core" else name
        wide = 10 + LETTER * len(label)
        shapes.append(
            f'<rect x="{at:.0f}" y="{under}" width="{wide:.0f}" height="16" rx="8" fill="{ROOMS[name].colour}"/>'
        )
        shapes.append(_text(at + 5, under + 12, label, 10.5, fill="#fff"))
        at += wide + 4
    return shapes


def _arrows(found: Uses, tops: dict[str, int], heights: dict[str, int]) -> list[str]:
    """One for every room that imports another: straight down where they touch, else through the gutters."""
    pairs = {
        (name, use[:-1]) for name, parts in found.items() for uses in parts.values() for use in uses if use[-1] == "/"
    }  # fmt: skip
    bottom = {name: tops[name] + heights[name] for name in ROOMS}
    left, right = GUTTER // 2, WIDTH - GUTTER // 2
    between = ROOMS["jobs"].x - GUTTER // 2
    ways: dict[tuple[str, str], Iterable[tuple[float, float]]] = {
        ("infra", "pipelines"): _down(ROOMS["pipelines"], bottom["infra"], tops["pipelines"]),
        ("infra", "jobs"): _down(ROOMS["jobs"], bottom["infra"], tops["jobs"]),
        ("jobs", "serve"): _down(ROOMS["serve"], bottom["jobs"], tops["serve"]),
        ("pipelines", "ifmdm_core"): _down(ROOMS["pipelines"], bottom["pipelines"], tops["ifmdm_core"]),
        ("serve", "ifmdm_core"): _down(ROOMS["serve"], bottom["serve"], tops["ifmdm_core"]),
        ("infra", "ifmdm_core"): _around(GUTTER, left, tops["infra"] + 40, tops["ifmdm_core"] + 40),
        ("infra", "serve"): _around(WIDTH - GUTTER, right, tops["infra"] + 40, tops["serve"] + 40),
        ("jobs", "ifmdm_core"): (
            (ROOMS["jobs"].x, tops["jobs"] + 40), (between, tops["jobs"] + 40), (between, tops["ifmdm_core"]),
        ),
    }  # fmt: skip
    missing = sorted(pairs - set(ways))
    assert not missing, f"no way is drawn for the imports {missing}: give them one, or take them out"
    return [
        f'<polyline points="{" ".join(f"{x:.0f},{y:.0f}" for x, y in ways[pair])}" fill="none" stroke="#555" '
        'stroke-width="2" marker-end="url(#tip)"/>'
        for pair in sorted(pairs)
    ]


def _down(room: Room, start: int, end: int) -> tuple[tuple[float, float], ...]:
    x = room.x + room.width / 2
    return (x, start), (x, end)


def _around(edge: int, lane: int, start: int, end: int) -> tuple[tuple[float, float], ...]:
    return (edge, start), (lane, start), (lane, end), (edge, end)


def _text(x: float, y: float, words: str, size: float, weight: str = "normal", fill: str = "#111") -> str:
    safe = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size:g}" font-weight="{weight}" fill="{fill}">{safe}</text>'


if __name__ == "__main__":
    main()
