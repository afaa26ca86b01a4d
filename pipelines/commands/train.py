"""`ifmdm train`: the three stages, on Ray Train or in this process; resume, sync, list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ifmdm_core.errors import BadInput
from pipelines.commands.common import (
    EndpointOption,
    JsonOption,
    ProfileOption,
    RoleOption,
    print_json,
    s3_config,
)

if TYPE_CHECKING:
    from pipelines.training.driver import Launch
    from pipelines.training.launch import TrainingResult

app = typer.Typer(
    name="train",
    help="Train speech encoder, autoencoder (stage 1) or motion generator (stage 2) on a dataset.",
    no_args_is_help=True,
    add_completion=False,
)

ConfigArgument = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="YAML or JSON, e.g. configs/demo/motion.yaml")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="one setting, e.g. fit.steps=200; repeatable"),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="say what would run and on what; write nothing")
]
LocalOption = Annotated[bool, typer.Option("--local", help="in this process, without Ray")]
WorkersOption = Annotated[
    str | None, typer.Option("--workers", metavar="N|LEAST:MOST", help="how many; default: as configured")
]
AddressOption = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="'auto' or host:port of a cluster; default: here"),
]
NameOption = Annotated[str | None, typer.Option("--name", help="of the run; default: stage and time")]
ForceOption = Annotated[bool, typer.Option("--force", help="although another driver seems to train it")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="no progress, only the summary")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="folder or s3://bucket/prefix of a run")]


def _train(
    stage: str,
    config: Path,
    overrides: list[str] | None,
    dry_run: bool,
    launch: Launch,
    workers: str | None,
    name: str | None,
    quiet: bool,
    json: bool,
    s3: Any,
) -> None:
    from pipelines.training.launch import preflight, read_config, train
    from pipelines.training.stages import stage_named

    chosen = [*(overrides or ()), *([f"workers.count={_count_text(workers)}"] if workers else ())]
    if dry_run:
        from pipelines.training.plan import plan
        from pipelines.training.progress import TrainingProgress

        found = stage_named(stage)
        values = read_config(found, config, chosen)
        with TrainingProgress(f"{stage} --dry-run", quiet) as progress:
            made = plan(preflight(found, values, s3), progress.say)
        print_json(made.as_json()) if json else print(made)
        return
    result = train(stage, config, overrides=chosen, name=name, launch=launch, s3=s3, quiet=quiet)
    _say(result, json)


def _stage_command(stage: str, about: str) -> None:
    def command(
        config: ConfigArgument,
        overrides: SetOption = None,
        dry_run: DryRunOption = False,
        local: LocalOption = False,
        workers: WorkersOption = None,
        address: AddressOption = None,
        name: NameOption = None,
        quiet: QuietOption = False,
        json: JsonOption = False,
        endpoint: EndpointOption = None,
        profile: ProfileOption = None,
        role: RoleOption = None,
    ) -> None:
        launch = _launch(local, address, workers)
        s3 = s3_config(endpoint, profile, role)
        _train(stage, config, overrides, dry_run, launch, workers, name, quiet, json, s3)

    command.__doc__ = about
    app.command(stage)(command)


_stage_command("speech", "Train the speech encoder on sound and lip movement of a dataset.")
_stage_command("autoencoder", "Train stage 1: one frame of a person painted from another (paper 3.2).")
_stage_command("motion", "Train stage 2: the motion generator (paper 3.3).")


@app.command()
def resume(
    run: RunArgument,
    local: LocalOption = False,
    workers: WorkersOption = None,
    address: AddressOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Go on with a run from its newest checkpoint, on any number of workers."""
    from pipelines.training.launch import resume as go_on

    launch = _launch(local, address, workers, force)
    count = _count(workers) if workers else None
    s3 = s3_config(endpoint, profile, role)
    _say(go_on(run, workers=count, launch=launch, s3=s3, quiet=quiet), json)


@app.command()
def sync(
    run: RunArgument,
    uri: Annotated[
        str | None, typer.Option("--uri", help="MLflow; default: as the run was configured")
    ] = None,
    patience: Annotated[float, typer.Option("--patience", min=0, help="seconds to keep trying")] = 0.0,
    json: JsonOption = False,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Send MLflow what it lacks of a run."""
    from pipelines.training.listing import sync as send

    report = send(run, uri=uri, patience_s=patience, s3=s3_config(endpoint, profile, role))
    print_json(report.model_dump(mode="json")) if json else print(
        f"{report.sent} files of figures are in {report.uri}, {report.pending} are not"
        + (f": {report.problem}" if report.problem else "")
    )


@app.command("ls")
def list_(
    runs: Annotated[
        str, typer.Argument(metavar="RUNS", help="folder or s3://bucket/prefix of runs")
    ] = "runs",
    json: JsonOption = False,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """List runs: stage, state, steps, last figures."""
    from pipelines.training.listing import runs as listed
    from pipelines.training.listing import table

    found = listed(runs, s3=s3_config(endpoint, profile, role))
    print_json([one.model_dump(mode="json") for one in found]) if json else print(table(found))


def _launch(local: bool, address: str | None, workers: str | None, force: bool = False) -> Launch:
    from pipelines.training.driver import Launch

    if local and (address or workers):
        raise BadInput("--local trains in this one process", fix="leave out --ray and --workers")
    return Launch(address=address, local=local, force=force)


def _count(text: str) -> int | tuple[int, int]:
    least, colon, most = text.partition(":")
    try:
        return (int(least), int(most)) if colon else int(least)
    except ValueError:
        raise BadInput(
            f"--workers {text!r} is no number", fix="write e.g. 2, or 2:8 for two to eight"
        ) from None


def _count_text(text: str) -> str:
    count = _count(text)
    return str(list(count)) if isinstance(count, tuple) else str(count)


def _say(result: TrainingResult, json: bool) -> None:
    if json:
        print_json(result.summary())
        return
    figures = ", ".join(f"{name} {value:.4g}" for name, value in sorted(result.record.metrics.items()))
    print(
        f"{result.weights}\nrun {result.run}, {result.record.step} steps"
        + (f"; {figures}" if figures else "")
    )
