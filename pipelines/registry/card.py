"""What a person should know of a version before using it, as markdown."""

from __future__ import annotations

from ifmdm_core.bundle import Bundle
from pipelines.evaluate.report import EvaluationReport

_RUNS = ("autoencoder", "motion", "speech")


def card(bundle: Bundle, report: EvaluationReport | None = None) -> str:
    """The model card of a bundle, with the figures of an evaluation when there is one."""
    record = bundle.record
    lines = [f"# {record.name}", "", f"Bundle `{bundle.digest}`", ""]
    lines += [
        "## Use",
        "",
        record.intended_use or "Not stated.",
        "",
        f"Licence: {record.licence or 'not stated'}.",
        "",
    ]
    lines += ["## Figures", ""]
    if report is None:
        lines += ["None yet: `ifmdm evaluate`, then `ifmdm model register --evaluation`.", ""]
    else:
        counts = ", ".join(f"{count} {kind}" for kind, count in report.held_out.clips.items())
        lines += [
            f"Held-out clips of `{report.held_out.uri}` ({counts}), content `{report.held_out.dataset[:16]}`, settings "
            f"`{report.held_out.settings[:16]}`; intervals hold 95 % of resampled clip sets.",
            "", "| figure | value | better |", "| --- | --- | --- |",
            *(f"| {name} | {figure} | {figure.better} |" for name, figure in report.figures.items()), "",
        ]  # fmt: skip
    lines += ["## Made of", "", "| part | run | data |", "| --- | --- | --- |"]
    for part in _RUNS:
        run = record.lineage.get(f"{part}_run", "not recorded")
        data = record.lineage.get(f"{part}_dataset", "not recorded")
        manifest = record.lineage.get(f"{part}_manifest")
        lines.append(f"| {part} | {run} | {data}{f', manifest {manifest}' if manifest else ''} |")
    lines += ["", f"Motion encoder `{record.encoder}`.", "", "## Lineage", ""]
    lines += [f"- {name}: `{value}`" for name, value in sorted(record.lineage.items()) if value]
    lines += ["", "## Files", "", *(f"- {name} `{digest}`" for name, digest in record.sha256.items())]
    return "\n".join(lines) + "\n"
