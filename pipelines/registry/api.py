"""One function for each `ifmdm model` command, for notebooks and scripts.

bundle = make_bundle("out", name="anna", autoencoder="runs/stage1", motion="runs/stage2", speech="demo")
register("anna", "out", evaluation="report.json")
promote("models:/anna/1")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ifmdm_core.bundle_fetch import fetch_bundle
from ifmdm_core.config import load_config
from ifmdm_core.storage import S3Config
from pipelines.evaluate.report import EvaluationReport, read_report
from pipelines.registry.bundling import make_bundle
from pipelines.registry.compare import Difference, contents, differences
from pipelines.registry.gates import GateConfig
from pipelines.registry.promotion import Promotion
from pipelines.registry.promotion import promote as _promote
from pipelines.registry.settings import mlflow_uri, model_store
from pipelines.registry.stale import Stale, find_stale
from pipelines.registry.versions import Registry, Version
from pipelines.tracking.resolve import ResolvedModel, open_model
from pipelines.tracking.resolve import resolve as _resolve

__all__ = ["Registered", "compare", "make_bundle", "promote", "register", "resolve", "show", "versions"]

Reports = Sequence[str | Path | EvaluationReport]


@dataclass(frozen=True)
class Registered:
    """A version, new or found again."""

    version: Version
    stale: Stale
    """Motion generators that do not go with its encoder."""


def register(
    name: str,
    bundle: str,
    *,
    evaluation: str | Path | EvaluationReport | None = None,
    store: str | None = None,
    mlflow: str | None = None,
    s3: S3Config | None = None,
) -> Registered:
    """Upload a bundle to the store, once, and make it a version of the model `name`.

    Args:
        bundle: "demo", a folder, `s3://` or `models:/...`.
        evaluation: of this bundle, from `ifmdm evaluate`.
        store, mlflow: None as `model_store` and `mlflow_uri` say.

    Raises:
        Conflict: the evaluation is of another bundle. Otherwise what `open_model` and `Registry.add` raise.
    """
    registry = Registry(_required(mlflow), s3)
    report = _reports([evaluation])[0] if evaluation is not None else None
    opened = open_model(bundle, registry.mlflow, s3)
    version = registry.add(name, opened, model_store(store), report)
    return Registered(version, find_stale(registry, version.encoder))


def promote(
    reference: str,
    *,
    alias: str = "champion",
    gates: str | Path | GateConfig | None = None,
    evaluations: Reports = (),
    mlflow: str | None = None,
    s3: S3Config | None = None,
) -> Promotion:
    """Give `alias` to the version `models:/NAME/VERSION` if it passes the gates.

    Args:
        gates: a YAML file (configs/gates.yaml is one); None: no figure of S, lip_r, reconstruction_gain_db and
            seam_ratio worse than the champion's beyond its interval.
        evaluations: of the version or of the champion; those of the version are kept with it.

    Raises what `promotion.promote` raises.
    """
    registry = Registry(_required(mlflow), s3)
    version = registry.find(reference)
    config = gates if isinstance(gates, GateConfig) else load_config(GateConfig, gates)
    reports = _reports(evaluations)
    for report in reports:
        if report.bundle_digest == version.sha256:
            bundle = fetch_bundle(version.uri, version.sha256, s3)
            version = registry.evaluated(version, bundle, report)
    return _promote(registry, version, alias, config, reports)


def versions(name: str | None = None, *, mlflow: str | None = None) -> list[Version]:
    """All registered bundles, or those of one model, newest first."""
    return Registry(_required(mlflow)).versions(name)


def show(reference: str, *, mlflow: str | None = None) -> Version:
    """One version, with its lineage, figures and card."""
    return Registry(_required(mlflow)).find(reference)


def resolve(reference: str, *, mlflow: str | None = None) -> ResolvedModel:
    """What a `models:/` name means now: URI and sha256."""
    return _resolve(reference, _required(mlflow))


def compare(
    first: str, second: str, *, mlflow: str | None = None, s3: S3Config | None = None
) -> list[Difference]:
    """What differs between two bundles or versions: record, files, networks, lineage, figures."""
    return differences(*(_contents(reference, mlflow, s3) for reference in (first, second)))


def _contents(reference: str, mlflow: str | None, s3: S3Config | None) -> dict[str, dict[str, str]]:
    uri = mlflow_uri(mlflow, required=reference.startswith("models:"))
    figures: dict[str, str] = {}
    if reference.startswith("models:"):
        assert uri is not None
        figures = Registry(uri, s3).find(reference).figures
    return contents(open_model(reference, uri, s3), figures)


def _required(mlflow: str | None) -> str:
    uri = mlflow_uri(mlflow)
    assert uri is not None
    return uri


def _reports(given: Reports) -> list[EvaluationReport]:
    return [report if isinstance(report, EvaluationReport) else read_report(report) for report in given]
