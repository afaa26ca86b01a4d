"""`ifmdm plan`: what a load takes, or how long jobs take, from measured rates (`ifmdm plan rates`)."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ifmdm_core.errors import BadInput

if TYPE_CHECKING:
    from infra.planning.rates import Rates
    from infra.planning.workload import PlannedJob

_plan = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

DEFAULT_RATES = "demo-cpu"
RatesOption = Annotated[
    str,
    typer.Option(
        "--rates",
        metavar="FILE|demo-cpu",
        help="from ifmdm plan rates; demo-cpu: the bundled model on 2 CPU cores",
    ),
]
SECONDS, SLOTS_A_WORKER, SLOTS_HERE = 10.0, 8, 2


def app(args: list[str], prog_name: str, standalone_mode: bool) -> Any:
    """The command's entry."""
    if args[:1] == ["rates"]:
        from infra.commands.plan_rates import app as rates_app

        return rates_app(args=args[1:], prog_name=f"{prog_name} rates", standalone_mode=standalone_mode)
    return _plan(args=args, prog_name=prog_name, standalone_mode=standalone_mode)


@_plan.command()
def plan(
    renders_per_day: Annotated[
        float | None, typer.Option("--renders-per-day", metavar="N", help="jobs a day")
    ] = None,
    speech_seconds: Annotated[
        float, typer.Option("--speech-seconds", metavar="S", help="seconds of speech of a job")
    ] = SECONDS,
    steps: Annotated[int, typer.Option(help="denoising steps per window")] = 8,
    size: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="side of the output; default: the model's")
    ] = None,
    peak: Annotated[float, typer.Option(metavar="TIMES", help="the busiest hours' load / the mean load")] = 2.5,
    used: Annotated[float, typer.Option(metavar="PART", help="of its time that a replica works at the peak")] = 0.7,
    hours_of_data: Annotated[
        float, typer.Option("--hours-of-data", metavar="H", help="hours of video to cut and encode for training")
    ] = 0.0,
    data_workers: Annotated[int, typer.Option(metavar="N", help="workers that do that")] = 1,
    price: Annotated[
        float | None,
        typer.Option("--price", "--gpu-price", metavar="$", help="for an hour of a GPU; of a CPU core with CPU rates"),
    ] = None,
    makespan: Annotated[
        bool, typer.Option("--makespan", help="instead: how long jobs take that all wait now, by simulation")
    ] = False,
    jobs_manifest: Annotated[
        Path | None,
        typer.Option(
            "--jobs-manifest", metavar="FILE",
            help="with --makespan: a column speech_seconds, or audio files of this machine",
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, metavar="N", help="with --makespan: so many of --speech-seconds")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=10_000, help="with --makespan: job workers")] = 1,
    slots: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, help=f"jobs under way in a worker; default {SLOTS_A_WORKER}, with --makespan {SLOTS_HERE}"
        ),
    ] = None,
    replicas: Annotated[
        list[str] | None,
        typer.Option("--replicas", metavar="STAGE=N", help="with --makespan: of a stage; default 1; repeatable"),
    ] = None,
    seed: Annotated[int, typer.Option(help="with --makespan: of the scheduler's chance")] = 0,
    rates: RatesOption = DEFAULT_RATES,
    explain: Annotated[bool, typer.Option("--explain", help="how each figure was made")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the figures as JSON")] = False,
) -> None:  # fmt: skip
    """What renders a day take: GPUs or cores by stage, job workers, S3 requests, money; or how long some jobs take.

    'ifmdm plan rates' measures the rates that it reckons with; 'ifmdm simulate' plays a whole day.
    """
    from infra.planning.rates import load_rates

    if makespan == (renders_per_day is not None):
        raise BadInput(
            "what is to be planned?", fix="give --renders-per-day N, or --makespan with --jobs or a manifest"
        )
    known = load_rates(rates)
    if makespan:
        planned = _jobs(jobs_manifest, jobs, speech_seconds, steps, size)
        _tell_makespan(planned, known, workers, slots or SLOTS_HERE, replicas or [], seed, as_json)
        return
    from ifmdm_core.config import validate
    from infra.planning.demand import Load, demand

    values = {
        "renders_per_day": renders_per_day, "speech_s": speech_seconds, "steps": steps, "size": size, "peak": peak,
        "used": used, "slots": slots or SLOTS_A_WORKER, "data_hours": hours_of_data, "data_workers": data_workers,
        "device_hour": price,
    }  # fmt: skip
    load = validate(Load, values, where="options")
    figures = demand(load, known)
    if as_json:
        report = {
            "load": load.model_dump(),
            "rates": _about(known),
            "figures": [f.as_dict() for f in figures],
        }
        print(json.dumps(report, indent=1))
        return
    print(known.about)
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        why = f"   = {figure.formula}" if explain else ""
        print(f"{figure.name:<{width}}  {_short(figure.value):>10} {figure.unit}{why}".rstrip())


def _jobs(
    manifest: Path | None, count: int | None, seconds: float, steps: int, size: int | None
) -> Sequence[PlannedJob]:
    from infra.planning.manifest import read_manifest
    from infra.planning.workload import PlannedJob

    if (manifest is None) == (count is None):
        raise BadInput("which jobs?", fix="give --jobs-manifest FILE, or --jobs N with --speech-seconds S")
    if manifest is not None:
        return read_manifest(manifest)
    if not 0 < seconds <= 36_000:
        raise BadInput(f"--speech-seconds is {seconds:g}", fix="a number above 0")
    return [PlannedJob("default", seconds, steps, size)] * (count or 0)


def _tell_makespan(
    jobs: Sequence[PlannedJob],
    rates: Rates,
    workers: int,
    slots: int,
    replicas: list[str],
    seed: int,
    as_json: bool,
) -> None:
    from infra.planning.simulation.makespan import makespan

    counts = dict(_replicas(text) for text in replicas)
    found = makespan(jobs, rates, workers=workers, slots=slots, replicas=counts, seed=seed)
    if as_json:
        print(
            json.dumps(
                {"rates": _about(rates), "workers": workers, "slots": slots, **found.as_dict()}, indent=1
            )
        )
        return
    print(rates.about)
    print(f"{found.jobs} jobs in {found.seconds:.1f} s, by {workers} x {slots} slots")
    print("busy    " + ", ".join(f"{stage} {100 * part:.0f} %" for stage, part in found.busy.items()))
    print("waiting " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found.wait_s.items()))
    if rates.slots is not None and rates.slots != slots:
        print(
            f"ifmdm: these rates were measured with {rates.slots} jobs at once, not {slots}", file=sys.stderr
        )


def _replicas(text: str) -> tuple[str, int]:
    stage, _, count = text.partition("=")
    if stage not in ("speech", "motion", "decoder") or not count.isdigit() or int(count) < 1:
        raise BadInput(f"--replicas {text}", fix="speech=N, motion=N or decoder=N, N from 1")
    return stage, int(count)


def _about(rates: Rates) -> dict[str, Any]:
    return {
        "source": rates.source, "machine": rates.machine, "device": rates.device,
        "measured_at": rates.measured_at.isoformat(),
    }  # fmt: skip


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 or value == round(value) else f"{value:.4g}"
