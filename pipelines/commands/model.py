"""`ifmdm model bundle | register | promote | ls | show | diff | resolve`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.common import (
    EndpointOption,
    JsonOption,
    ProfileOption,
    RoleOption,
    print_json,
    s3_config,
    size_text,
)

if TYPE_CHECKING:
    from pipelines.registry.stale import Stale

app = typer.Typer(
    name="model",
    help="Bundles and versions: put together, register, promote, compare.",
    no_args_is_help=True,
    add_completion=False,
)

MlflowOption = Annotated[
    str | None,
    typer.Option(
        "--mlflow", metavar="URI", help="MLflow; default: $MLFLOW_TRACKING_URI, or runs/mlflow.db here"
    ),
]
ReferenceArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="models:/NAME@alias or models:/NAME/VERSION", show_default=False),
]
_SOURCE = "a run, a weights file, or a bundle ('demo', folder, s3://, models:/)"
_BUNDLE = "'demo', a folder, s3://bucket/prefix or models:/NAME@alias"


@app.command()
def bundle(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="folder to write", show_default=False)],
    name: Annotated[str, typer.Option("--name", metavar="TEXT", help="what people call it")],
    autoencoder: Annotated[str, typer.Option("--autoencoder", metavar="FROM", help=f"stage 1: {_SOURCE}")],
    motion: Annotated[str, typer.Option("--motion", metavar="FROM", help=f"stage 2: {_SOURCE}")],
    speech: Annotated[
        str,
        typer.Option("--speech", metavar="FROM", help="speech encoder: the same, a checkpoint, a hub name"),
    ],
    intended_use: Annotated[
        str | None,
        typer.Option("--intended-use", metavar="TEXT", help="default: of the bundles among the sources"),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--licence", metavar="TEXT", help="default: of the bundles among the sources"),
    ] = None,
    mouth_limit: Annotated[
        float | None,
        typer.Option("--mouth-limit", metavar="X", help="lip opening of an open mouth; default: measured"),
    ] = None,
    as_json: JsonOption = False,
    mlflow: MlflowOption = None,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Put a bundle together from trainings, with its way back to their runs and data."""
    from pipelines.registry.bundling import make_bundle
    from pipelines.registry.settings import mlflow_uri

    made = make_bundle(
        out, name=name, autoencoder=autoencoder, motion=motion, speech=speech, intended_use=intended_use,
        licence=licence, mouth_limit=mouth_limit, mlflow=mlflow_uri(mlflow, required=False),
        s3=s3_config(endpoint, profile, role),
    )  # fmt: skip
    if as_json:
        print_json({"folder": str(made.folder), "digest": made.digest, "record": made.record.model_dump()})
        return
    size = sum(path.stat().st_size for path in made.folder.rglob("*") if path.is_file())
    print(f"{made.folder}  {made.record.name}  {size_text(size)}  sha256 {made.digest}")


@app.command()
def register(
    name: Annotated[str, typer.Argument(metavar="NAME", help="of the model", show_default=False)],
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help=_BUNDLE, show_default=False)],
    evaluation: Annotated[
        Path | None, typer.Option("--evaluation", metavar="FILE", help="report of ifmdm evaluate")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="URI", help="where bundles lie; default: $IFMDM_MODELS, or ./models"),
    ] = None,
    as_json: JsonOption = False,
    mlflow: MlflowOption = None,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Upload a bundle and make it a version; the same bundle is the same version."""
    from pipelines.registry import api

    done = api.register(
        name, bundle, evaluation=evaluation, store=store, mlflow=mlflow, s3=s3_config(endpoint, profile, role)
    )
    if as_json:
        print_json({**done.version.model_dump(exclude={"card"}), "stale": done.stale.lines()})
        return
    print(f"{done.version.label}  {done.version.uri}  sha256 {done.version.sha256}")
    _tell_stale(done.stale)


@app.command()
def promote(
    model: ReferenceArgument,
    alias: Annotated[str, typer.Option("--alias", metavar="NAME", help="what it is to be")] = "champion",
    gates: Annotated[
        Path | None, typer.Option("--gates", metavar="FILE", help="gates as in configs/gates.yaml")
    ] = None,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option("--evaluation", metavar="FILE", help="report on it or on the champion; repeatable"),
    ] = None,
    as_json: JsonOption = False,
    mlflow: MlflowOption = None,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Give a version the champion's alias, if no gate is against it."""
    from pipelines.registry import api

    done = api.promote(
        model, alias=alias, gates=gates, evaluations=evaluation or (), mlflow=mlflow,
        s3=s3_config(endpoint, profile, role),
    )  # fmt: skip
    if as_json:
        print_json(
            {
                "version": done.version.label, "alias": done.alias, "stale": done.stale.lines(),
                "before": done.before.label if done.before else None, "gates": [asdict(g) for g in done.gates],
            }
        )  # fmt: skip
        return
    for gate in done.gates:
        print(gate)
    before = f", in place of {done.before.name}/{done.before.version}" if done.before else ""
    print(f"{done.version.name}/{done.version.version} is {done.alias}{before}")
    _tell_stale(done.stale)


@app.command()
def ls(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="of one model only")] = None,
    as_json: JsonOption = False,
    mlflow: MlflowOption = None,
) -> None:
    """List registered versions."""
    from pipelines.registry import api

    found = api.versions(name, mlflow=mlflow)
    if as_json:
        print_json([version.model_dump(exclude={"card"}) for version in found])
        return
    for version in found:
        figures = "  ".join(f"{key} {value}" for key, value in version.figures.items())
        print(f"{version.label}  {version.created}  {version.sha256[:12]}  {figures or 'not evaluated'}")
    if not found:
        print("no versions", file=sys.stderr)


@app.command()
def show(model: ReferenceArgument, as_json: JsonOption = False, mlflow: MlflowOption = None) -> None:
    """Show a version's card: use, figures, lineage, files."""
    from pipelines.registry import api

    version = api.show(model, mlflow=mlflow)
    if as_json:
        print_json(version.model_dump())
        return
    print(f"{version.label}  {version.created}  {version.uri}")
    for part, run in version.runs.items():
        print(f"{part} trained in MLflow run {run}")
    print(f"\n{version.card}", end="")


@app.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help=_BUNDLE, show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", help="the same", show_default=False)],
    as_json: JsonOption = False,
    mlflow: MlflowOption = None,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Say what differs between two bundles: networks, lineage, figures, files."""
    from pipelines.registry import api

    found = api.compare(first, second, mlflow=mlflow, s3=s3_config(endpoint, profile, role))
    if as_json:
        print_json([entry.model_dump() for entry in found])
        return
    group = ""
    for entry in found:
        if entry.group != group:
            group = entry.group
            print(group)
        print(f"  {entry.name}: {entry.first or 'none'} -> {entry.second or 'none'}")
    if not found:
        print("no difference")


@app.command()
def resolve(model: ReferenceArgument, as_json: JsonOption = False, mlflow: MlflowOption = None) -> None:
    """Say where a version's bundle lies and which digest it must have."""
    from pipelines.registry import api

    found = api.resolve(model, mlflow=mlflow)
    if as_json:
        print_json(found.model_dump())
        return
    print(f"{found.uri} {found.sha256}")


def _tell_stale(stale: Stale) -> None:
    if stale:
        print(f"motion generators of other encoders, not to be bundled with encoder {stale.encoder[:12]}:")
        for line in stale.lines():
            print(f"  {line}")
