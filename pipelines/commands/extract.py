"""`ifmdm data clips` and `ifmdm data features`."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ifmdm_core.config import load_config, validate
from ifmdm_core.errors import BadInput, IfmdmError
from pipelines.commands.common import (
    DatasetArgument,
    EndpointOption,
    GenerationOption,
    ProfileOption,
    RoleOption,
    print_json,
    s3_config,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipelines.run.pool import Pool
    from pipelines.run.progress import Progress
    from pipelines.run.settings import RunSettings

RayOption = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="'auto' or host:port of a cluster; default: here"),
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="workers; default: as many as CPUs or GPUs allow")
]
CpusOption = Annotated[
    float, typer.Option("--cpus", min=0.1, help="CPUs of one worker; a GPU needs several to feed it")
]
GpusOption = Annotated[
    float, typer.Option("--gpus", min=0.0, help="GPUs of one worker; 0.25 puts four on one")
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="only the first N")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="say what would run, write nothing")]
SummaryOption = Annotated[
    Path | None, typer.Option("--summary", metavar="FILE", help="write the JSON summary there as well")
]
ScratchOption = Annotated[
    Path | None, typer.Option("--scratch", help="folder for temporary files on each node")
]
DeadlineOption = Annotated[
    float,
    typer.Option("--deadline-factor", min=0.1, help="seconds a shard may take for each second of video"),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="no progress, only the summary")]


def clips(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="folder, s3:// prefix, or .csv/.parquet list")
    ],
    dataset: DatasetArgument,
    parameters: Annotated[
        Path | None, typer.Option("--parameters", metavar="FILE", help="clip parameters, YAML or JSON")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="one clip parameter, e.g. size=256"),
    ] = None,
    sync: Annotated[
        bool, typer.Option("--sync", help="drop clips of sources that SOURCE no longer has")
    ] = False,
    shard_seconds: Annotated[
        float | None,
        typer.Option(
            "--shard-seconds", min=0.1, help="video in a shard of a new dataset; default: by amount"
        ),
    ] = None,
    max_bad_fraction: Annotated[
        float,
        typer.Option("--max-bad-fraction", min=0, max=1, help="stop when more of the sources is refused"),
    ] = 0.5,
    limit: LimitOption = None,
    dry_run: DryRunOption = False,
    ray: RayOption = None,
    workers: WorkersOption = None,
    cpus: CpusOption = 1.0,
    deadline_factor: DeadlineOption = 30.0,
    scratch: ScratchOption = None,
    summary: SummaryOption = None,
    quiet: QuietOption = False,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Cut face clips out of videos: probe, plan, cut. Run again to resume, or to add what is new."""
    from pipelines.dataset.parameters import ClipParameters
    from pipelines.run.clips import ClipsRun
    from pipelines.run.settings import RunSettings

    if sync and limit:
        raise BadInput("--sync with --limit would drop all other sources", fix="give one of them")
    settings = validate(
        RunSettings,
        {
            "address": ray, "workers": workers, "cpus": cpus, "limit": limit, "scratch": scratch,
            "max_bad_fraction": max_bad_fraction, "deadline_factor": deadline_factor,
        },
    )  # fmt: skip
    s3 = s3_config(endpoint, profile, role)
    run = ClipsRun(
        source,
        dataset,
        load_config(ClipParameters, parameters, overrides or ()),
        settings,
        s3,
        sync,
        shard_seconds,
        _say,
    )
    if dry_run:
        print_json(run.dry_run())
        return
    from pipelines.run.workers import ClipWorker

    with _progress("clips", quiet) as progress, ExitStack() as stack:
        make = _pool(stack, settings, progress, ClipWorker, _place(dataset), run.parameters, s3)
        done = run.run(make, progress)
    _finish(done, progress, summary)


def features(
    dataset: DatasetArgument,
    speech: Annotated[
        str | None, typer.Option("--speech", help="'demo', a bundle, a Wav2Vec2/HuBERT folder or a hub name")
    ] = None,
    motion: Annotated[
        str | None, typer.Option("--motion", help="'demo', a bundle folder or an autoencoder.safetensors")
    ] = None,
    layers: Annotated[
        str | None, typer.Option("--layers", help="hidden states of the speech encoder, e.g. 4,8,12")
    ] = None,
    generation: GenerationOption = None,
    batch: Annotated[
        int, typer.Option("--batch", min=1, help="frames in one call of the motion encoder")
    ] = 16,
    limit: LimitOption = None,
    dry_run: DryRunOption = False,
    ray: RayOption = None,
    workers: WorkersOption = None,
    cpus: CpusOption = 1.0,
    gpus: GpusOption = 0.0,
    deadline_factor: DeadlineOption = 30.0,
    scratch: ScratchOption = None,
    summary: SummaryOption = None,
    quiet: QuietOption = False,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Encode clips: speech features and motion vectors, aligned row for row with the clip shards."""
    from pipelines.run.features import FeaturesRun
    from pipelines.run.settings import RunSettings

    settings = validate(
        RunSettings,
        {
            "address": ray, "workers": workers, "cpus": cpus, "gpus": gpus, "limit": limit, "scratch": scratch,
            "batch": batch, "deadline_factor": deadline_factor,
        },
    )  # fmt: skip
    s3 = s3_config(endpoint, profile, role)
    run = FeaturesRun(
        dataset, settings, speech=_reference(speech), layers=_layers(layers), motion=_reference(motion),
        generation=generation, s3=s3, report=_say,
    )  # fmt: skip
    if dry_run:
        print_json(run.dry_run())
        return
    from pipelines.run.workers import FeatureWorker

    with _progress("features", quiet) as progress, ExitStack() as stack:
        make = _pool(
            stack, settings, progress, FeatureWorker, _place(dataset), run.generation_name, run.wanted, s3
        )
        done = run.run(make, progress)
    _finish(done, progress, summary)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("clips")(clips)
    app.command("features")(features)


def _layers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise BadInput(f"--layers {text!r} are no layer numbers", fix="write e.g. 4,8,12") from None


def _reference(text: str | None) -> str | None:
    """A model given by a relative path must mean the same on a worker with another working folder."""
    return str(Path(text).resolve()) if text and Path(text).exists() else text


def _place(dataset: str) -> str:
    """The same for the dataset: a cluster that was started elsewhere has another working folder."""
    return dataset if "://" in dataset else str(Path(dataset).expanduser().absolute())


@contextmanager
def _progress(stage: str, quiet: bool) -> Iterator[Progress]:
    from pipelines.run.progress import Progress

    with Progress(stage, quiet) as progress:
        yield progress


def _pool(
    stack: ExitStack, settings: RunSettings, progress: Progress, kind: type, *arguments: Any
) -> Callable[[], Pool]:
    """Joins the cluster, until `stack` is closed, and starts workers, once there is work for them."""
    from pipelines.run.cluster import connect
    from pipelines.run.pool import Pool
    from pipelines.run.workers import start

    def make() -> Pool:
        cluster = stack.enter_context(connect(settings.address))
        size = settings.size(cluster.cpus, cluster.gpus)
        return Pool(lambda: start(kind, settings, *arguments), size, on_retry=progress.retry)

    return make


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _finish(done: dict[str, Any], progress: Progress, file: Path | None) -> None:
    summary = {**done, "progress": progress.summary()}
    if file is not None:
        file.write_text(json.dumps(summary, indent=1))
    print_json(summary)
    if summary["failed"]:
        name, reason = next(iter(summary["failed"].items()))
        raise IfmdmError(
            f"{len(summary['failed'])} shards were not made; {name}: {reason}",
            fix="everything else is kept; run the same command again",
        )
