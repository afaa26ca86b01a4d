"""`ifmdm evaluate BUNDLE DATASET`: the paper's tables and the measuring tables, with truth, controls and baselines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ifmdm_core.commands.render import DeviceOption, PrecisionOption
from ifmdm_core.config import validate
from ifmdm_core.errors import BadInput
from pipelines.commands.common import EndpointOption, GenerationOption, ProfileOption, RoleOption, s3_config
from pipelines.commands.extract import CpusOption, GpusOption, RayOption, WorkersOption

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def evaluate(
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE", help="'demo', a folder, s3://..., models:/NAME@alias", show_default=False
        ),
    ],
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET",
            help="dataset with a held-out split, or folder of talking videos no training saw",
            show_default=False,
        ),
    ],
    row: Annotated[
        list[str] | None,
        typer.Option("--row", metavar="NAME=FOLDER", help="another system's videos, named as the clips"),
    ] = None,
    landmarker: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|own",
            help="face_landmarker.task, or our own face net; default: $IFMDM_FACE_LANDMARKER",
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            metavar="NAME=FILE",
            help="ONNX of another judge: inception, arcface, syncnet-lips, syncnet-sound",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="few clips, variants, seeds; wide intervals")
    ] = False,
    table: Annotated[
        list[int] | None,
        typer.Option("--table", metavar="1|2|3", help="only these of the paper's tables; default: all"),
    ] = None,
    measuring: Annotated[
        bool, typer.Option("--measuring/--no-measuring", help="without the tables of docs/measuring.md")
    ] = True,
    clips: Annotated[
        int | None, typer.Option("--clips", min=1, help="clips of a kind; default: 13, 4 with --quick")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="of a dataset")] = "heldout",
    selection: Annotated[
        str | None, typer.Option("--selection", metavar="NAME", help="of a dataset; default: all clips")
    ] = None,
    generation: GenerationOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="report, videos, finished rows; default: evaluations/BUNDLE"
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export", metavar="DIR", help="write portraits, sounds, real videos for other systems"
        ),
    ] = None,
    local: Annotated[bool, typer.Option("--local", help="in this process, without Ray")] = False,
    ray: RayOption = None,
    workers: WorkersOption = None,
    cpus: CpusOption = 1.0,
    gpus: GpusOption = 0.0,
    device: DeviceOption = None,
    precision: PrecisionOption = "auto",
    mlflow: Annotated[
        str | None,
        typer.Option(
            "--mlflow",
            metavar="URI",
            help="default: $MLFLOW_TRACKING_URI, else runs/mlflow.db, else beside --out",
        ),
    ] = None,
    experiment: Annotated[str, typer.Option("--experiment", help="in MLflow")] = "ifmdm",
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="print it as Markdown")] = False,
) -> None:
    """Judge a bundle on held-out clips: the paper's tables 1 to 3 and the measuring tables.

    Lips on renders are read by a reference landmarker (mediapipe's face_landmarker.task, with the package mediapipe);
    --landmarker own takes our own face net, and the tables say so. Run again to go on where it stopped.
    """
    from pipelines.evaluate.baselines import parse_rows
    from pipelines.evaluate.run import evaluate as run
    from pipelines.run.settings import RunSettings
    from pipelines.tracking.settings import TrackingSettings

    if local and (ray or workers):
        raise BadInput("--local with --ray or --workers", fix="give one of them")
    values = {"address": ray, "workers": workers, "cpus": cpus, "gpus": gpus}
    report = run(
        bundle,
        dataset,
        rows=parse_rows(row or ()),
        landmarker=landmarker,
        weights=dict(_pair(text) for text in weights or ()),
        quick=quick,
        tables=table or (1, 2, 3),
        measuring=measuring,
        clips_of_a_kind=clips,
        split=split,
        selection=selection,
        generation=generation,
        out=out,
        export=export,
        ray=None if local else validate(RunSettings, values, where="options"),
        device=device,
        precision=precision,
        tracking=TrackingSettings(uri=mlflow, experiment=experiment),
        s3=s3_config(endpoint, profile, role),
        notice=lambda text: print(text, file=sys.stderr, flush=True),
    )
    if as_json:
        print(report.model_dump_json())
    elif as_markdown:
        print(report.markdown())
    else:
        report.print()


def _pair(text: str) -> tuple[str, str]:
    name, sign, file = text.partition("=")
    if not (sign and name and file):
        raise BadInput(f"--weights {text!r} is not NAME=FILE", fix="e.g. --weights arcface=w600k_r50.onnx")
    return name, file
