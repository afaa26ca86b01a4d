"""How to reach S3, and the only place that builds its clients: boto3's and pyarrow's, from one `S3Config`."""

from __future__ import annotations

import os
import threading
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.errors import BadInput, Forbidden
from ifmdm_core.storage.faults import s3_errors

_turn = threading.Lock()
_descriptions: Any = None


class S3Config(BaseModel):
    """How to reach S3. Unset fields follow the AWS environment and profile files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str | None = Field(None, description="URL of an S3-compatible store")
    region: str | None = Field(None, description="region, e.g. eu-central-1")
    profile: str | None = Field(None, description="named profile; one with SSO settings signs in by SSO")
    role_arn: str | None = Field(None, description="role to assume with the credentials above")
    kms_key_id: str | None = Field(None, description="KMS key that encrypts what is written")
    path_style: bool | None = Field(None, description="bucket in the path; None decides by endpoint")
    connect_timeout_s: float = Field(10.0, gt=0, description="seconds to connect")
    read_timeout_s: float = Field(60.0, gt=0, description="seconds without a byte")


def s3_client(config: S3Config, attempts: int = 5, presigning: bool = False) -> Any:
    """A boto3 S3 client. `attempts` counts the first try; `presigning` makes one whose URLs work everywhere."""
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    path_style = config.path_style if config.path_style is not None else config.endpoint is not None
    style = {"addressing_style": "path"} if path_style else None
    if presigning and style is None:
        # Else the URL names the global endpoint, whose redirect to another region breaks the signature.
        style = {"addressing_style": "virtual"}
    options = Config(
        # boto's default for URLs is version 2, which newer regions and KMS do not take.
        signature_version="s3v4" if presigning else None,
        connect_timeout=config.connect_timeout_s,
        read_timeout=config.read_timeout_s,
        retries={"total_max_attempts": attempts, "mode": "standard"},
        max_pool_connections=64,  # opened as threads ask for them; boto's 10 would be closed and opened again
        s3=style,
        # Newer checksums on every request are refused by older S3-compatible stores.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        return _session(config).client("s3", endpoint_url=config.endpoint, config=options)
    except (BotoCoreError, ValueError) as error:
        raise BadInput(f"S3 settings: {error}", fix="check endpoint, profile and region") from None


def arrow_filesystem(config: S3Config) -> Any:
    """A pyarrow S3 filesystem with the same endpoint and credentials as `s3_client`."""
    from pyarrow import fs

    session = _session(config)
    credentials = session.get_credentials()
    if credentials is None:
        raise Forbidden("no S3 credentials found", fix="set a profile, a role or AWS_ACCESS_KEY_ID")
    frozen = credentials.get_frozen_credentials()
    endpoint = config.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return fs.S3FileSystem(
        access_key=frozen.access_key,
        secret_key=frozen.secret_key,
        session_token=frozen.token,
        region=session.region_name or "us-east-1",
        endpoint_override=endpoint,
        connect_timeout=config.connect_timeout_s,
        request_timeout=config.read_timeout_s,
    )


def _session(config: S3Config) -> Any:
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        session = boto3.Session(profile_name=config.profile, region_name=config.region)
    except BotoCoreError as error:
        raise BadInput(f"S3 profile {config.profile!r}: {error}") from None
    _share_descriptions(session._session)
    if config.role_arn is None:
        return session
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
    from botocore.session import get_session

    # Taken anew before they run out: a worker lives longer than the hour that a role is given for.
    fetcher = AssumeRoleCredentialFetcher(
        session._session.create_client,
        session.get_credentials(),
        config.role_arn,
        extra_args={"RoleSessionName": "ifmdm"},
    )
    credentials = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
    with s3_errors(config.role_arn):
        credentials.get_frozen_credentials()
    core = get_session()
    _share_descriptions(core)
    core._credentials = credentials
    return boto3.Session(botocore_session=core, region_name=session.region_name)


def _share_descriptions(session: Any) -> None:
    """Lets a botocore session read its description of S3 where earlier ones have: parsed, it takes 12 MB and 0.5 s."""
    global _descriptions
    with _turn:
        _descriptions = _descriptions or session.get_component("data_loader")
    session.register_component("data_loader", _descriptions)
