"""Where the three parts of a bundle come from: a training run, a weights file, or another bundle."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ifmdm_core.bundle import BundleRecord
from ifmdm_core.errors import BadInput, Conflict, IfmdmError, NotFound
from ifmdm_core.provenance import sha256_of_file
from ifmdm_core.storage import S3Config, open_storage
from ifmdm_core.uri import Uri
from pipelines.tracking.resolve import open_model

if TYPE_CHECKING:
    from pipelines.training.result import ResultRecord

PartName = Literal["autoencoder", "motion", "speech"]
FILES: dict[PartName, str] = {
    "autoencoder": "autoencoder.safetensors",
    "motion": "motion.safetensors",
    "speech": "speech",
}


@dataclass(frozen=True)
class Part:
    """One part of a bundle, on this disk."""

    name: PartName
    label: str
    """What it was asked for by, for messages."""
    path: Path | str
    """A weights file; for speech a checkpoint folder, or a hub name as text."""
    lineage: dict[str, str] = field(default_factory=dict)
    """Of the run that made it, every name beginning with the part's."""
    record: BundleRecord | None = None
    """Of the bundle that it was taken from."""
    result: ResultRecord | None = None
    """Of the run that made it."""


def find_part(
    name: PartName, source: str, scratch: Path, mlflow: str | None = None, s3: S3Config | None = None
) -> Part:
    """The part `name` that `source` leads to.

    Args:
        source: a run (folder or `s3://`), a weights file (a checkpoint folder or hub name for speech), or a bundle
            ("demo", folder, `s3://`, `models:/NAME@alias`).
        scratch: folder that what must be fetched is put into.

    Raises:
        NotFound: nothing there, or the run has no result yet. BadInput: a run of another stage.
        Conflict: a file of the run is not what its record says.
    """
    if source == "demo" or source.startswith("models:") or _has(source, "bundle.json", s3):
        return _of_bundle(name, source, mlflow, s3)
    if _has(source, "run.json", s3):
        return _of_run(name, source, scratch, s3)
    path = Path(source)
    if name == "speech":
        if path.is_file() or (path.is_dir() and not (path / "config.json").is_file()):
            raise BadInput(
                f"--speech {source} is no speech encoder",
                fix="give a run, a bundle, or a transformers checkpoint",
            )
        return Part(name, source, path if path.is_dir() else source)
    if not path.is_file():
        raise NotFound(
            f"--{name} {source}: no run, bundle or weights file there",
            fix="check the path (a run has run.json)",
        )
    return Part(name, source, path)


def _has(source: str, file: str, s3: S3Config | None) -> bool:
    uri = Uri.parse(source)
    if uri.scheme == "file":
        return (Path(uri.path) / file).is_file()
    return open_storage(uri, s3).info(file) is not None


def _of_bundle(name: PartName, source: str, mlflow: str | None, s3: S3Config | None) -> Part:
    bundle = open_model(source, mlflow, s3)
    record = bundle.record
    lineage = {k: v for k, v in record.lineage.items() if k.startswith(f"{name}_")}
    reference = record.speech.source
    path: Path | str = bundle.folder / FILES[name]
    if name == "speech" and reference != "speech":
        path = reference
    lineage[f"{name}_bundle"] = f"{record.name} {bundle.digest}"
    return Part(name, source, path, lineage, record)


def _of_run(name: PartName, source: str, scratch: Path, s3: S3Config | None) -> Part:
    from pipelines.training.result import read_result
    from pipelines.training.run import RunFolder

    run = RunFolder.at(source, s3)
    stage = run.record().stage
    if stage != name:
        raise BadInput(
            f"--{name} {source} is a run of {stage}", fix=f"give it as --{stage}, or another run here"
        )
    result = read_result(run)
    if result is None:
        raise NotFound(f"--{name} {source} has no result yet", fix=f"let it end: ifmdm train resume {source}")
    folder = scratch / name
    for file, digest in result.sha256.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        run.storage.fetch(f"result/{file}", path)
        if (found := sha256_of_file(path)) != digest:
            raise Conflict(
                f"{source}/result/{file} has sha256 {found}, its record says {digest}",
                fix="it was damaged or changed: train again from the last checkpoint",
            )
    return Part(name, source, folder / FILES[name], _lineage(name, result), None, result)


def _lineage(name: PartName, result: ResultRecord) -> dict[str, str]:
    """Where the part came from, without paths of somebody's disk."""
    data = result.data
    place = data.dataset if data.dataset.startswith("s3://") else Uri.parse(data.dataset).name
    values = {
        "run": result.name, "train_id": result.train_id, "steps": str(result.step), "dataset": place,
        "manifest": str(data.manifest), "dataset_content": data.content, "generation": data.generation,
        "speech_features": data.speech, "motion_features": data.motion, "selection": data.selection,
    }  # fmt: skip
    return {f"{name}_{key}": value for key, value in values.items() if value}


def half_precision(part: Part, scratch: Path) -> Path | str:
    """A trained speech encoder in half as many bytes; the digest that features go by is over half precision anyway."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    if isinstance(part.path, str) or part.record is not None:
        return part.path
    target = scratch / "speech-half"
    target.mkdir()
    for file in sorted(part.path.glob("*.json")):
        shutil.copyfile(file, target / file.name)
    try:
        weights = load_file(part.path / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise _unreadable(part, error) from None
    halved = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    save_file(halved, target / "model.safetensors", {"format": "pt"})
    return target


def _unreadable(part: Part, error: Exception) -> IfmdmError:
    return BadInput(f"--speech {part.label}: {error}", fix="give a checkpoint with model.safetensors")
