"""The whole evaluation.

report = evaluate("demo", "s3://bucket/set", landmarker="face_landmarker.task", rows={"real3d": "outputs/real3d"})
report.print()
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ifmdm_core.errors import BadInput
from ifmdm_core.metrics.evaluate import FULL, QUICK, Effort
from ifmdm_core.metrics.stage import OWN
from ifmdm_core.metrics.sync_model import ASSETS
from ifmdm_core.metrics.video_score import Judges
from ifmdm_core.provenance import sha256_of_file
from ifmdm_core.storage import S3Config
from pipelines.dataset.ids import digest
from pipelines.evaluate.baselines import baseline_row
from pipelines.evaluate.evaluation import Evaluation
from pipelines.evaluate.examiner import Setup
from pipelines.evaluate.finished import VERSION, Finished, slug
from pipelines.evaluate.held_out import clips_digest, held_out_clips, spread
from pipelines.evaluate.plan import Plan
from pipelines.evaluate.report import EvaluationReport, HeldOut
from pipelines.evaluate.tracked import track
from pipelines.evaluate.work import worked
from pipelines.registry.settings import mlflow_uri
from pipelines.run.settings import RunSettings
from pipelines.tracking.resolve import open_model, resolve
from pipelines.tracking.settings import TrackingSettings

Notice = Callable[[str], None]

TELL_S = 10.0
"""Between two notices of how far it is."""


def evaluate(
    bundle: str | Path,
    clips: str | Path,
    *,
    rows: Mapping[str, str | Path] | None = None,
    landmarker: str | Path | None = None,
    weights: Mapping[str, str] | None = None,
    out: str | Path | None = None,
    export: str | Path | None = None,
    quick: bool = False,
    tables: Iterable[int] = (1, 2, 3),
    measuring: bool = True,
    clips_of_a_kind: int | None = None,
    split: str = "heldout",
    selection: str | None = None,
    generation: str | None = None,
    s3: S3Config | None = None,
    ray: RunSettings | None = None,
    device: str | None = None,
    precision: str = "auto",
    effort: Effort | None = None,
    tracking: TrackingSettings | None = None,
    notice: Notice | None = None,
) -> EvaluationReport:
    """Judge a bundle on held-out clips; an evaluation that was stopped goes on where it was.

    Args:
        bundle: "demo", a folder, s3://bucket/prefix, or models:/NAME@alias of the tracking's MLflow.
        clips: a dataset (its `split` is taken), or a folder of talking videos whose first folder level names kinds.
        rows: folders of other systems' videos by row name, each video named as its clip.
        landmarker: a face_landmarker.task file, or "own"; None: $IFMDM_FACE_LANDMARKER.
        weights: ONNX files of others' judges by name, see `metrics.video_score.WEIGHTS`.
        out: folder of the report, its videos and all finished rows; None: evaluations/<bundle>.
        export: folder for portraits, sounds and real videos, so that other systems can be given the same.
        quick: few clips, variants and seeds: wide intervals.
        tables: which of the paper's tables. measuring: also the tables of docs/measuring.md.
        clips_of_a_kind: how many clips of a kind are measured, spread over them all.
        ray: workers on a Ray cluster; None measures in this process.
        effort: how much the measuring tables measure, instead of what `quick` chooses.
        tracking: MLflow; its `uri` by default $MLFLOW_TRACKING_URI, ./runs/mlflow.db if it is there, else a database
            beside the report's folder. None: nothing is logged.
        notice: told what is being done.

    Raises:
        NotFound, BadInput, Conflict: bundle, clips, rows, landmarker or weights that cannot be used; before any
        worker starts. BadInput: not one clip was usable.
    """
    say = notice or (lambda text: print(text, file=sys.stderr, flush=True))
    began = time.monotonic()
    effort = effort or (QUICK if quick else FULL)
    if clips_of_a_kind is not None:
        effort = dataclasses.replace(effort, clips={"clips": clips_of_a_kind})
    wanted = set(tables)
    if not wanted <= {1, 2, 3}:
        raise BadInput(f"the paper has no table {max(wanted - {1, 2, 3})} of ours", fix="give 1, 2 or 3")
    where = str(bundle)
    if where.startswith("models:"):
        named = resolve(where, mlflow_uri(tracking.uri if tracking else None) or "")
        where = named.uri
    checked = open_model(where, None, s3)
    found = held_out_clips(str(clips), s3, split=split, selection=selection, generation=generation)
    chosen = spread(found, effort.clips)
    plan = Plan(
        clips=tuple(chosen),
        tables=tuple(sorted(wanted | {1})) if wanted else (),  # 2 and 3 need the real video's row
        quick=quick,
        baselines=tuple(baseline_row(name, Path(folder), chosen) for name, folder in (rows or {}).items()),
        export=export is not None,
    )
    setup = Setup(
        bundle=where, digest=checked.digest, uri=str(clips), s3=s3, seconds=effort.clip_s,
        landmarker=str(landmarker) if landmarker else None, weights=dict(weights or {}), device=device,
        precision=precision,
    )  # fmt: skip
    judges = Judges.load(setup.landmarker, setup.weights)
    scorer = ASSETS / "r.safetensors"
    pictures = {
        "version": VERSION, "size": setup.size, "seconds": setup.seconds, "judges": judges.digests,
        "scorer": sha256_of_file(scorer) if scorer.is_file() else "",
    }  # fmt: skip
    settings = {**pictures, "effort": dataclasses.asdict(effort)}
    kinds = sorted({clip.kind for clip in chosen})
    folder = Path(out) if out else Path("evaluations") / f"{slug(checked.record.name)}-{checked.digest[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    evaluation = Evaluation(
        name=checked.record.name,
        digest=checked.digest,
        plan=plan,
        effort=effort if measuring else None,
        seconds=effort.clip_s,
        held_out=HeldOut(
            uri=str(clips),
            dataset=clips_digest(chosen),
            settings=digest(settings, length=16),
            clips={kind: sum(clip.kind == kind for clip in chosen) for kind in kinds},
        ),
        settings=settings,
        finished=Finished(folder, f"{checked.digest}:{precision}", digest(pictures, length=16)),
        lips_by="our own face net, no reference" if setup.landmarker == OWN else "the reference landmarker",
        export=Path(export) if export is not None else None,
    )
    todo = evaluation.todo()
    if evaluation.recalled:
        say(f"{evaluation.recalled} rows and measuring steps are in {folder} already")
    told = began
    for number, done in enumerate(worked(todo, setup, ray), 1):
        evaluation.take(*done)
        if time.monotonic() - told >= TELL_S or number == len(todo):
            told = time.monotonic()
            say(f"{number} of {len(todo)}: {done[0].name} ({told - began:.0f} s)")
    report = evaluation.report(time.monotonic() - began)
    say(f"wrote {folder}/report.json, report.html, videos/")
    if tracking is not None:
        uri = mlflow_uri(tracking.uri, required=False) or tracking.resolved(folder.parent).uri
        track(report, folder, tracking.model_copy(update={"uri": uri}), say)
    return report
