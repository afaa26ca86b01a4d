"""Versions of a model in MLflow's registry; each is one bundle in the store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.bundle import Bundle
from ifmdm_core.errors import NotFound
from ifmdm_core.storage import S3Config
from pipelines.evaluate.report import EvaluationReport
from pipelines.registry.card import card
from pipelines.registry.store import ModelStore, require_about
from pipelines.tracking.mlflow_errors import mlflow_errors
from pipelines.tracking.mlflow_run import TRAIN_ID, open_client
from pipelines.tracking.resolve import SHA256, URI, find_version

ENCODER = "ifmdm.encoder"
_LINEAGE, _FIGURE, _RUN = "lineage.", "figure.", "ifmdm.run."
PARTS = ("autoencoder", "motion", "speech")


class Version(BaseModel):
    """One registered bundle."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: int
    aliases: tuple[str, ...] = ()
    uri: str = Field(description="where the bundle lies")
    sha256: str = Field(description="of its bundle.json")
    encoder: str = Field(description="digest of its motion encoder")
    runs: dict[str, str] = Field(
        default_factory=dict, description="MLflow run that trained each part, as far as this MLflow has it"
    )
    created: str = Field(description="UTC")
    lineage: dict[str, str] = Field(default_factory=dict)
    figures: dict[str, str] = Field(default_factory=dict, description="of its newest evaluation")
    card: str = Field("", description="markdown")

    @property
    def label(self) -> str:
        aliases = "".join(f" @{alias}" for alias in self.aliases)
        return f"{self.name}/{self.version}{aliases}"


class Registry:
    """MLflow's registry and the stores behind it.

    Args:
        mlflow: URI of the MLflow server or database.
    """

    def __init__(self, mlflow: str, s3: S3Config | None = None) -> None:
        self.mlflow, self.s3 = mlflow, s3
        self.client = open_client(mlflow)

    def add(self, name: str, bundle: Bundle, store: str, report: EvaluationReport | None = None) -> Version:
        """Upload a bundle to `store` and make it a version of `name`; the version that has it already is returned.

        Raises:
            Conflict: the report is of another bundle. Unavailable: the store or MLflow does not answer.
        """
        if report is not None:
            require_about(report, bundle.digest)
        uri = ModelStore(store, self.s3).put(bundle)
        with mlflow_errors(self.mlflow, f"registering {name}"):
            self._make_model(name)
            known = [v for v in self.versions(name) if v.sha256 == bundle.digest]
            version = known[0] if known else self._create(name, bundle, uri)
        return self.evaluated(version, bundle, report) if report is not None else version

    def store_of(self, version: Version) -> ModelStore:
        """Where the version's bundle and evaluations lie."""
        return ModelStore(version.uri.removesuffix(f"/bundles/{version.sha256}"), self.s3)

    def evaluated(self, version: Version, bundle: Bundle, report: EvaluationReport) -> Version:
        """Keep an evaluation with a version that there is, and show its figures."""
        self.store_of(version).add_evaluation(report, version.sha256)
        with mlflow_errors(self.mlflow, version.label):
            number = str(version.version)
            for figure, value in report.figures.items():
                self.client.set_model_version_tag(version.name, number, f"{_FIGURE}{figure}", str(value))
            self.client.update_model_version(version.name, number, card(bundle, report))
        return self.get(version.name, version.version)

    def get(self, name: str, version: int) -> Version:
        """Raises NotFound when there is no such version."""
        return self.find(f"models:/{name}/{version}")

    def find(self, reference: str) -> Version:
        """The version that a `models:/` reference names; raises as `resolve`."""
        return self._version(find_version(reference, self.mlflow))

    def champion(self, name: str, alias: str) -> Version | None:
        """The version that has the alias; None when none has."""
        try:
            return self.find(f"models:/{name}@{alias}")
        except NotFound:
            return None

    def versions(self, name: str | None = None) -> list[Version]:
        """Versions of one model or of all, newest first; what is no bundle of ours is passed over."""
        with mlflow_errors(self.mlflow, "listing versions"):
            models = _pages(lambda token: self.client.search_registered_models(page_token=token))
            aliases = {model.name: model.aliases for model in models}
            wanted = f"name = '{name}'" if name else None
            found = _pages(lambda token: self.client.search_model_versions(wanted, page_token=token))
        ours = [self._version(entry, aliases.get(entry.name, {})) for entry in found if SHA256 in entry.tags]
        return sorted(ours, key=lambda v: (v.name, -v.version))

    def set_alias(self, version: Version, alias: str) -> None:
        """From now on `models:/NAME@alias` is this version."""
        with mlflow_errors(self.mlflow, version.label):
            self.client.set_registered_model_alias(version.name, alias, str(version.version))

    def _make_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(name, description="Talking portraits: bundles of ifmdm")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _create(self, name: str, bundle: Bundle, uri: str) -> Version:
        lineage = {f"{_LINEAGE}{key}"[:250]: value for key, value in bundle.record.lineage.items() if value}
        # A server takes no source on a local disk; the tag always says where the bundle is.
        runs = {part: run for part in PARTS if (run := self._run_of(bundle, part))}
        source = uri if uri.startswith("s3://") else f"ifmdm://sha256/{bundle.digest}"
        made = self.client.create_model_version(
            name, source, runs.get("motion"), description=card(bundle),
            tags={
                **lineage, **{f"{_RUN}{part}": run for part, run in runs.items()},
                URI: uri, SHA256: bundle.digest, ENCODER: bundle.record.encoder,
            },
        )  # fmt: skip
        return self._version(made)

    def _run_of(self, bundle: Bundle, part: str) -> str | None:
        """The MLflow run that trained a part, when this MLflow has it."""
        train_id = bundle.record.lineage.get(f"{part}_train_id")
        if train_id is None:
            return None
        experiments = [e.experiment_id for e in self.client.search_experiments()]
        runs = self.client.search_runs(experiments, f"tags.`{TRAIN_ID}` = '{train_id}'", max_results=1)
        return runs[0].info.run_id if runs else None

    def _version(self, entry: Any, aliases: dict[str, str] | None = None) -> Version:
        tags = entry.tags
        named = [a for a, v in (aliases or {}).items() if str(v) == str(entry.version)]
        return Version(
            name=entry.name,
            version=int(entry.version),
            aliases=tuple(sorted({*named, *entry.aliases})),
            uri=tags.get(URI, ""),
            sha256=tags.get(SHA256, ""),
            encoder=tags.get(ENCODER, ""),
            runs={k.removeprefix(_RUN): v for k, v in tags.items() if k.startswith(_RUN)},
            created=datetime.fromtimestamp(entry.creation_timestamp / 1000, UTC).isoformat(
                timespec="seconds"
            ),
            lineage={k.removeprefix(_LINEAGE): v for k, v in tags.items() if k.startswith(_LINEAGE)},
            figures={k.removeprefix(_FIGURE): v for k, v in tags.items() if k.startswith(_FIGURE)},
            card=entry.description or "",
        )


def _pages(search: Any) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = search(token)
        found += page
        token = page.token
        if not token:
            return found
