"""A simulated day as one picture: load and queue, replicas, use, waits and losses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

STAGES = ("decoder", "motion", "speech")
COLOURS = {"decoder": "#1b6ca8", "motion": "#d1495b", "speech": "#66a182"}


def draw(found: dict[str, Any], path: Path) -> None:
    """Writes the picture of what `simulation.day.simulate` gave (with its scenario) to `path`; the suffix tells how."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    series = found["series"]
    hours = [line["at_s"] / 3600 for line in series]
    figure = Figure(figsize=(11, 11), layout="constrained")
    FigureCanvasAgg(figure)
    load, replicas, used, waits = figure.subplots(4, 1, sharex=True)
    scenario = found["scenario"]
    cut = f", a cut of {scenario['cut']:g}" if scenario["cut"] < 1 else ""
    figure.suptitle(
        f"{scenario['renders_per_day']:,.0f} renders a day{cut}: {found['published']:,} published, "
        f"${found['dollars_per_1000']} for 1,000, seed {scenario['seed']}"
    )
    load.plot(hours, _rate(series, "submitted"), color="#999999", label="submitted")
    load.plot(hours, _rate(series, "published"), color="#222222", label="published")
    load.set_ylabel("jobs per second")
    queue = load.twinx()
    queue.fill_between(
        hours, [line["waiting"] for line in series], color="#f2c14e", alpha=0.5, label="waiting"
    )
    queue.set_ylabel("jobs waiting")
    queue.set_ylim(bottom=0)
    _legend(load, queue)
    for stage in STAGES:
        replicas.plot(hours, [line[stage]["replicas"] for line in series], color=COLOURS[stage], label=stage)
        replicas.plot(hours, [line[stage]["wanted"] for line in series], color=COLOURS[stage], lw=0.7, ls=":")
        used.plot(
            hours, [100 * line[stage]["used"] for line in series], color=COLOURS[stage], label=stage, lw=1
        )
    lost = _steps([sum(line[stage]["lost_nodes"] for stage in STAGES) for line in series])
    for number, (at, count) in enumerate((at, count) for at, count in zip(hours, lost, strict=True) if count):
        replicas.axvline(
            at,
            color="#000000",
            alpha=min(0.5, 0.08 * count),
            lw=0.8,
            label="nodes lost" if not number else None,
        )
    replicas.set_ylabel("replicas (dotted: wanted)")
    replicas.set_ylim(bottom=0)
    replicas.legend(loc="upper left", ncols=4, fontsize="small")
    used.set_ylabel("replicas' time used, %")
    used.set_ylim(0, 100)
    used.legend(loc="upper left", ncols=3, fontsize="small")
    waits.plot(hours, [line["wait_p50_s"] for line in series], color="#222222", label="p50")
    waits.plot(hours, [line["wait_p95_s"] for line in series], color="#d1495b", label="p95")
    waits.set_ylabel("seconds in the queue")
    waits.set_yscale("symlog", linthresh=1)
    waits.set_ylim(bottom=0)
    waits.set_xlabel("hour")
    waits.legend(loc="upper left", ncols=2, fontsize="small")
    for axes in (load, replicas, used, waits):
        axes.grid(alpha=0.25)
        axes.set_xlim(0, hours[-1])
    figure.savefig(path, dpi=110)


def _rate(series: Sequence[dict[str, Any]], name: str) -> list[float]:
    """Per second, line by line."""
    times, counts = _steps([line["at_s"] for line in series]), _steps([line[name] for line in series])
    return [count / max(passed, 1e-9) for count, passed in zip(counts, times, strict=True)]


def _steps(values: Sequence[float]) -> list[float]:
    return [value - before for value, before in zip(values, [0.0, *values], strict=False)]


def _legend(*axes: Any) -> None:
    """One legend for axes that lie on each other."""
    handles = [handle for each in axes for handle in each.get_legend_handles_labels()[0]]
    axes[0].legend(
        handles, [handle.get_label() for handle in handles], loc="upper left", ncols=3, fontsize="small"
    )
