"""`models:/NAME@alias` and `models:/NAME/3` to a place and a digest, and from there to a bundle.

The only module that asks MLflow which bundle a name means. What it gives, URI and sha256, needs MLflow no more.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.bundle import Bundle, load_bundle
from ifmdm_core.bundle_fetch import fetch_bundle
from ifmdm_core.errors import BadInput, Conflict, NotFound
from ifmdm_core.storage import S3Config
from pipelines.tracking.mlflow_errors import mlflow_errors
from pipelines.tracking.mlflow_run import open_client

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

URI, SHA256 = "ifmdm.uri", "ifmdm.sha256"
"""Tags of a version: where its bundle lies, and the digest of its bundle.json."""
_REFERENCE = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


class ResolvedModel(BaseModel):
    """What a name means now."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: int
    uri: str = Field(description="folder or s3://bucket/prefix of the bundle")
    sha256: str = Field(description="of its bundle.json, hence of everything in it")


def resolve(reference: str, mlflow: str) -> ResolvedModel:
    """The bundle that `models:/NAME@alias` or `models:/NAME/VERSION` names at the MLflow `mlflow`.

    Raises:
        BadInput: not such a name. NotFound: no such model, alias or version. Unavailable: MLflow does not answer.
        Conflict: the version is none of ours.
    """
    found = find_version(reference, mlflow)
    tags: dict[str, Any] = found.tags
    if URI not in tags or SHA256 not in tags:
        raise Conflict(
            f"{reference} is version {found.version} of {found.name}, which is no bundle of ifmdm (no tag {SHA256})",
            fix="register bundles with ifmdm model register",
        )
    return ResolvedModel(name=found.name, version=int(found.version), uri=tags[URI], sha256=tags[SHA256])


def find_version(reference: str, mlflow: str) -> ModelVersion:
    """MLflow's record of the version that a `models:/` reference names; raises as `resolve`."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise BadInput(
            f"{reference!r} names no model", fix="write models:/NAME@alias or models:/NAME/VERSION"
        )
    with mlflow_errors(mlflow, reference, fix="ifmdm model ls lists what there is"):
        client = open_client(mlflow)
        if match["alias"]:
            return _with_alias(client, match["name"], match["alias"], reference)
        return client.get_model_version(match["name"], match["version"])


def _with_alias(client: Any, name: str, alias: str, reference: str) -> ModelVersion:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        # An alias that is not there is called an invalid parameter.
        if error.error_code == "INVALID_PARAMETER_VALUE" and "alias" in str(error):
            raise NotFound(
                f"{reference}: the model has no such alias", fix="ifmdm model ls lists them"
            ) from None
        raise


def open_model(reference: str, mlflow: str | None = None, s3: S3Config | None = None) -> Bundle:
    """A bundle by any of its names: "demo", a local folder, `s3://bucket/prefix`, `models:/NAME@alias`.

    Raises what `resolve`, `fetch_bundle` and `load_bundle` raise.
    """
    if reference.startswith("models:"):
        if mlflow is None:
            raise BadInput(f"{reference} needs MLflow", fix="give --mlflow URI, or set MLFLOW_TRACKING_URI")
        named = resolve(reference, mlflow)
        return fetch_bundle(named.uri, named.sha256, s3)
    return fetch_bundle(reference, None, s3) if reference.startswith("s3://") else load_bundle(reference)
