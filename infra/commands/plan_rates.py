"""`ifmdm plan rates`: what work costs, measured on finished jobs or taken from a bench, as a file."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ifmdm_core.commands.s3_options import EndpointOption, ProfileOption, RoleOption, s3_config
from ifmdm_core.errors import BadInput

if TYPE_CHECKING:
    from infra.planning.rates import Rates

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def rates(
    from_jobs: Annotated[
        str | None,
        typer.Option(
            "--from-jobs", metavar="ROOT", help="a job store: logs and metrics of its published jobs"
        ),
    ] = None,
    from_bench: Annotated[
        Path | None, typer.Option("--from-bench", metavar="FILE", help="what ifmdm bench --json printed")
    ] = None,
    datasets: Annotated[
        Path | None,
        typer.Option(
            "--datasets", metavar="FILE", help="a report of extraction speed, as docs/bench-datasets.json"
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="default: printed")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, or the name of the GPU that the stages ran on")] = "cpu",
    cores: Annotated[
        float | None, typer.Option(help="CPU cores that a stage at work keeps busy; default: this machine's")
    ] = None,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Measured rates as a file for --rates, from finished jobs or from a bench."""
    if (from_jobs is None) == (from_bench is None):
        raise BadInput("rates come from one source", fix="give --from-jobs ROOT, or --from-bench FILE")
    command = f"ifmdm plan rates {shlex.join(sys.argv[3:])}"
    if from_jobs is not None:
        from ifmdm_core.storage import open_storage
        from infra.planning.from_jobs import rates_of, read_samples
        from jobs.store import JobStore

        store = JobStore(open_storage(from_jobs, s3_config(endpoint, profile, role)), "plan")
        store.check_layout()
        found = rates_of(read_samples(store), command, device, cores)
    else:
        found = _of_bench(from_bench, command, device, cores)
    if datasets is not None:
        from ifmdm_core.config import read_mapping, validate
        from infra.planning.from_bench import DatasetReport, extraction_of

        report = validate(DatasetReport, read_mapping(datasets), where=str(datasets))
        found = found.model_copy(update={"extraction": extraction_of(report)})
    if output is None:
        print(found.model_dump_json(indent=1))
    else:
        found.save(output)
        print(f"{output}: {found.about}")


def _of_bench(path: Path | None, command: str, device: str, cores: float | None) -> Rates:
    from ifmdm_core.config import read_mapping, validate
    from infra.planning.from_bench import BenchReport, rates_of
    from infra.planning.rates import now

    assert path is not None
    report = validate(BenchReport, read_mapping(path), where=str(path))
    return rates_of(report, command, now(), device, cores or 2.0)
