"""The statistics of a dataset as a picture, and as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.inspect.stats import Stats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#2f6b9a", "#d9822b", "#8a8f98"
MOST_BARS = 12
TITLES = {
    "seconds": ("clip length", "s"),
    "face_size": ("face size", "pixels of the source"),
    "sharpness": ("sharpness", "variance of the face's Laplacian"),
    "brightness": ("brightness", "mean luma of the face"),
    "head_motion": ("head motion", "face sizes"),
    "speech_share": ("speech", "part of the frames"),
    "loudness": ("loudness", "dBFS"),
}


def draw(stats: Stats) -> Figure:
    """Every chart on one sheet."""
    from matplotlib.figure import Figure

    rows = 4 if stats.motion else 3
    figure = Figure(figsize=(13, 3.1 * rows + 0.5), layout="constrained", facecolor="white")
    figure.suptitle(_headline(stats), x=0.01, ha="left", fontsize=12)
    grid = figure.add_gridspec(rows, 4)
    for k, column in enumerate(TITLES):
        _histogram(figure.add_subplot(grid[k // 4, k % 4]), stats.quality[column], *TITLES[column])
    _bars(figure.add_subplot(grid[1, 3]), _hours(stats, "split"), "hours by split")
    _bars(figure.add_subplot(grid[2, 0]), _hours(stats, "identity"), "hours by person")
    _bars(figure.add_subplot(grid[2, 1]), _hours(stats, "folder"), "hours by folder")
    _bars(figure.add_subplot(grid[2, 2]), _hours(stats, "rights"), "hours by rights")
    refused = {**stats.left_out, **{f"quarantine: {k}": v for k, v in stats.quarantine.items()}}
    _bars(figure.add_subplot(grid[2, 3]), refused, "left out", ORANGE)
    if stats.motion:
        _motion(figure.add_subplot(grid[3, :2]), stats.motion)
        _deviations(figure.add_subplot(grid[3, 2:]), stats.motion)
    return figure


def png(stats: Stats) -> bytes:
    """`draw` as PNG."""
    data = io.BytesIO()
    draw(stats).savefig(data, format="png", dpi=110, metadata={"Software": None})
    return data.getvalue()


def page(stats: Stats) -> str:
    """A self-contained HTML page: the picture, and tables of what it shows."""
    image = base64.b64encode(png(stats)).decode()
    parts = [
        f"<h1>{html.escape(stats.dataset)}</h1><p>{html.escape(_headline(stats))}</p>",
        f'<img alt="charts of the dataset" src="data:image/png;base64,{image}">',
    ]
    for group, values in stats.groups.items():
        rows = [(value, f"{clips:,}", f"{hours:.3f}") for value, (clips, hours) in list(values.items())[:200]]
        parts.append(_table(f"by {group}", (group, "clips", "hours"), rows))
    quality = [
        (column, *(f"{value:.4g}" for value in found["percentiles"]), str(found["missing"]))
        for column, found in stats.quality.items()
        if found["percentiles"]
    ]
    parts.append(
        _table("quality, percentiles of clips", ("column", "5", "25", "50", "75", "95", "missing"), quality)
    )
    for title, counts in (("left out by the selection", stats.left_out), ("quarantine", stats.quarantine)):
        if counts:
            parts.append(_table(title, ("reason", "count"), [(k, f"{v:,}") for k, v in counts.items()]))
    if stats.offsets:
        offsets = [(folder, f"{value:+.2f}") for folder, value in stats.offsets.items()]
        parts.append(_table("sound late, by folder", ("folder", "seconds"), offsets))
    if stats.motion:
        names = ("mean", "deviation", "speed", "minimum", "maximum", "saturated")
        dims = [
            (str(dim), *(f"{stats.motion[name][dim]:.4f}" for name in names))
            for dim in range(len(stats.motion["mean"]))
        ]
        parts.append(_table(f"{stats.motion['name']}, by dimension", ("dimension", *names), dims))
    style = (
        "body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1200px;padding:0 1rem;color:#222}"
        "img{max-width:100%}h2{font-size:1.05rem;margin:1.6rem 0 .3rem}h1{font-size:1.2rem;overflow-wrap:anywhere}"
        "td,th{padding:.1rem .9rem .1rem 0;text-align:right}td:first-child,th:first-child{text-align:left}"
        "th{font-weight:600;border-bottom:1px solid #ccc}table{border-collapse:collapse}"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(stats.dataset)}</title>'
        f"<style>{style}</style>{''.join(parts)}</html>\n"
    )


def _headline(stats: Stats) -> str:
    chosen = f", selection {stats.selection}" if stats.selection else ""
    people = len([name for name in stats.groups.get("identity", {}) if name != "unknown"])
    return (
        f"{stats.clips:,} clips, {stats.hours:.2f} h, {stats.sources:,} sources, "
        f"{people:,} {'person' if people == 1 else 'people'}"
        f"  (generation {stats.generation}, manifest {stats.manifest}{chosen})"
    )


def _table(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f"<h2>{html.escape(title)}</h2><table><tr>{top}</tr>{body}</table>"


def _hours(stats: Stats, group: str) -> dict[str, float]:
    return {value: hours for value, (_, hours) in stats.groups[group].items()}


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _nothing(axes: Axes, why: str) -> None:
    axes.text(0.5, 0.5, why, ha="center", color=GREY, transform=axes.transAxes)
    axes.set_axis_off()


def _histogram(axes: Axes, found: dict[str, Any], title: str, unit: str) -> None:
    _plain(axes, f"{title} [{unit}]")
    if not found["counts"]:
        _nothing(axes, "no clip has it")
        return
    edges = np.array(found["edges"])
    axes.bar(edges[:-1], found["counts"], np.diff(edges), align="edge", color=BLUE, edgecolor="white")
    axes.axvline(found["percentiles"][2], color=ORANGE, linewidth=1.2)
    axes.set_ylabel("clips", fontsize=8)
    if found["missing"]:
        axes.annotate(
            f"{found['missing']} without", (0.98, 0.93), xycoords="axes fraction", ha="right", fontsize=8
        )


def _bars(axes: Axes, values: Mapping[str, float], title: str, colour: str = BLUE) -> None:
    _plain(axes, title)
    if not values:
        _nothing(axes, "none")
        return
    shown = dict(sorted(values.items(), key=lambda pair: -pair[1])[:MOST_BARS])
    rest = sum(values.values()) - sum(shown.values())
    if len(values) > MOST_BARS:
        shown[f"{len(values) - MOST_BARS} more"] = rest
    names = [name if len(name) <= 24 else f"…{name[-23:]}" for name in shown]
    bars = axes.barh(range(len(shown)), list(shown.values()), color=colour)
    axes.bar_label(bars, [f"{value:,.3g}" for value in shown.values()], padding=3, fontsize=8)
    axes.set_yticks(range(len(shown)), names)
    axes.set_ylim(max(len(shown), 5) - 0.5, -0.5)
    axes.margins(x=0.15)
    axes.locator_params(axis="x", nbins=4)


def _motion(axes: Axes, motion: dict[str, Any]) -> None:
    _plain(axes, f"{motion['name']}: distribution of each dimension, {motion['frames']:,} frames")
    density = np.array(motion["histogram"], float)
    density /= np.maximum(density.max(1, keepdims=True), 1)
    axes.imshow(density, aspect="auto", cmap="Blues", extent=(-1, 1, len(density) - 0.5, -0.5))
    axes.set_ylabel("dimension", fontsize=8)
    axes.set_yticks(range(0, len(density), 2))


def _deviations(axes: Axes, motion: dict[str, Any]) -> None:
    _plain(axes, "deviation, and change from frame to frame")
    place = np.arange(len(motion["deviation"]))
    axes.bar(place - 0.2, motion["deviation"], 0.4, color=BLUE, label="deviation")
    axes.bar(place + 0.2, motion["speed"], 0.4, color=ORANGE, label="change a frame")
    axes.set_xticks(place)
    axes.set_xlabel("dimension", fontsize=8)
    axes.legend(fontsize=8, frameon=False)
