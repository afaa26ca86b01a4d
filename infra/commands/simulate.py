"""`ifmdm simulate [SCENARIO]`: a day of renders, with the real scheduler and the real scaling policy."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.commands.plan import DEFAULT_RATES, RatesOption

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def simulate(
    scenario: Annotated[
        Path | None,
        typer.Argument(metavar="[SCENARIO]", help="YAML or JSON; without one, a million renders in 24 hours"),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="change one setting; repeatable")
    ] = None,
    rates: RatesOption = DEFAULT_RATES,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="everything as JSON, for later")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE.png", help="a plot of it")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print the figures as JSON, without the series")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check and print the settings, simulate nothing")
    ] = False,
) -> None:
    """Play a day of render jobs: arrivals by the hour and in bursts, nodes that come late and are taken away.

    Jobs are claimed by the scheduler of real workers, from a real job store in memory; replicas follow Ray Serve's
    rules and the service's own policy. What takes time comes from --rates. The same seed gives the same figures.
    """
    from infra.planning.rates import load_rates
    from infra.planning.simulation.scenario import load_scenario

    chosen = load_scenario(scenario, settings or ())
    known = load_rates(rates)
    if dry_run:
        print(json.dumps(chosen.model_dump(mode="json"), indent=1))
        return
    from infra.planning.simulation.day import simulate as play

    told = 0

    def say(part: float) -> None:
        nonlocal told
        if int(10 * part) > told:
            told = int(10 * part)
            print(f"ifmdm: {10 * told} % of the time", file=sys.stderr, flush=True)

    found = {
        "scenario": chosen.model_dump(mode="json"), "rates": known.model_dump(mode="json"), **play(chosen, known, say)
    }  # fmt: skip
    if output is not None:
        output.write_text(json.dumps(found) + "\n", encoding="utf-8")
    if picture is not None:
        from infra.planning.picture import draw

        draw(found, picture)
    if as_json:
        print(json.dumps({name: value for name, value in found.items() if name != "series"}, indent=1))
    else:
        _tell(found)


def _tell(found: dict[str, Any]) -> None:
    waits, whole = found["wait_s"], found["submit_to_published_s"]
    print(
        f"{found['published']:,} of {found['submitted']:,} jobs published in {found['hours']:g} simulated hours"
    )
    print(f"{'':<12}{'jobs':>10}{'wait p50':>10}{'p95':>9}{'p99':>9}{'whole p50':>11}{'p95':>9}{'p99':>9}  s")
    rows = {
        "all": {"jobs": found["published"], "wait_s": waits, "submit_to_published_s": whole},
        **found["tenants"],
    }
    for name, row in rows.items():
        cells = [*_quantiles(row["wait_s"]), *_quantiles(row["submit_to_published_s"])]
        print(
            f"{name:<12}{row['jobs']:>10,}{cells[0]:>10}{cells[1]:>9}{cells[2]:>9}{cells[3]:>11}{cells[4]:>9}{cells[5]:>9}"
        )
    for name, stage in found["stages"].items():
        lost = sum(stage["nodes_lost"].values())
        print(
            f"{name}: {stage['replicas_mean']:g} replicas (most {stage['replicas_most']}), "
            f"{100 * stage['used']:.0f} % used, {lost} nodes and {stage['calls_lost']} calls lost"
        )
    lost = sum(found["workers_lost"].values())
    print(f"{lost} job workers lost, {found['claimed_again']} jobs claimed again")
    print(f"${found['dollars_total']:,.2f}, ${found['dollars_per_1000']} for 1,000 renders")


def _quantiles(values: dict[str, float]) -> list[str]:
    return [f"{values[name]:.1f}" for name in ("p50", "p95", "p99")]
