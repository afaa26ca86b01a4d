"""Options of commands that reach S3, and the settings made of them."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ifmdm_core.storage import S3Config

EndpointOption = Annotated[
    str | None,
    typer.Option("--endpoint", metavar="URL", help="S3-compatible store; default: $AWS_ENDPOINT_URL, or AWS"),
]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", metavar="NAME", help="AWS profile; default: $AWS_PROFILE")
]
RoleOption = Annotated[
    str | None,
    typer.Option("--role", metavar="ARN", help="role to assume; default: $IFMDM_S3_ROLE, or none"),
]


def s3_config(
    endpoint: str | None = None,
    profile: str | None = None,
    role: str | None = None,
    region: str | None = None,
) -> S3Config:
    """S3 settings from options, then from the environment.

    An endpoint of the environment is put into the settings (boto3 would find it, pyarrow would not), and the
    settings travel to workers. Keys never do: a worker finds its own, or those in its environment.
    """
    return S3Config(
        endpoint=endpoint or _first("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        region=region or _first("AWS_REGION", "AWS_DEFAULT_REGION"),
        profile=profile,
        role_arn=role or _first("IFMDM_S3_ROLE"),
        kms_key_id=_first("IFMDM_S3_KMS_KEY"),
        path_style=None,
    )


def _first(*names: str) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)
