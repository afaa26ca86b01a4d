"""The report as one HTML file that needs nothing beside it: tables, and videos of the same clips side by side."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ifmdm_core.media.files import published
from ifmdm_core.metrics.tables import Table
from pipelines.evaluate.report import EvaluationReport

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #1c1c1c; }
h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; } .note { color: #555; max-width: 60rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .25rem .7rem; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap; }
.met { color: #11702f; } .not { color: #b3261e; } .open { color: #8a6d00; }
.clip { display: flex; flex-wrap: wrap; gap: .8rem; margin: .6rem 0 1.6rem; }
figure { margin: 0; width: 14rem; } video { width: 100%; background: #000; } figcaption { font-size: .85rem; }
"""


def write_html(path: Path, report: EvaluationReport, videos: Sequence[tuple[str, str, Path]]) -> None:
    """Write it, whole or not at all.

    Args:
        videos: (clip, row, MP4 file), clip after clip; they become part of the file.
    """
    counts = ", ".join(f"{count} {escape(kind)}" for kind, count in report.held_out.clips.items())
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>{escape(report.bundle)}: evaluation</title><style>{_STYLE}</style>",
        f"<h1>{escape(report.bundle)} <small>{report.bundle_digest[:12]}</small></h1>",
        f"<p class='note'>{counts}; clips {report.held_out.dataset[:12]}, settings {report.held_out.settings}; "
        f"{escape(report.created)}, {report.seconds:.0f} s. Videos other than the real ones are made by models.</p>",
        *_videos(videos),
        *(_table(table) for table in report.tables),
    ]
    if report.failed:
        lines = "".join(f"<li>{escape(name)}: {escape(why)}</li>" for name, why in report.failed.items())
        parts.append(f"<h2>Left out</h2><ul>{lines}</ul>")
    path.parent.mkdir(parents=True, exist_ok=True)
    with published(path) as temporary:
        temporary.write_text("\n".join(parts) + "\n</html>\n")


def _videos(videos: Sequence[tuple[str, str, Path]]) -> list[str]:
    parts: list[str] = []
    if videos:
        parts.append("<h2>The same portraits and sounds</h2>")
        parts.append(
            '<p><button onclick=\'for (const v of document.querySelectorAll("video")) {'
            " v.currentTime = 0; v.muted = true; v.play() }'>Play all, muted</button></p>"
        )
    for clip in dict.fromkeys(clip for clip, _, _ in videos):
        figures = []
        for _, row, file in (video for video in videos if video[0] == clip):
            data = base64.b64encode(file.read_bytes()).decode()
            figures.append(
                f"<figure><video controls loop preload='metadata' src='data:video/mp4;base64,{data}'></video>"
                f"<figcaption>{escape(row)}</figcaption></figure>"
            )
        parts.append(f"<h3>{escape(clip)}</h3><div class='clip'>{''.join(figures)}</div>")
    return parts


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    kinds = {True: "met", False: "not", None: "open"}
    gates = "".join(
        f"<li>{escape(gate.name)}: {escape(gate.value)}: <b class='{kinds[gate.met]}'>{gate.mark}</b></li>"
        for gate in table.gates
    )
    return (
        f"<h2>{escape(table.title)}</h2><p class='note'>{escape(table.note)}</p>"
        f"<div class='scroll'><table><tr>{head}</tr>{rows}</table></div><ul>{gates}</ul>"
    )
