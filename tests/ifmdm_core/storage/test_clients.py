"""Clients of a role, against a real token service over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ifmdm_core.storage import S3Config, open_storage, s3_client


@pytest.fixture
def role(s3_config: S3Config, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> S3Config:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)  # of the token service, which S3Config does not name
    return s3_config.model_copy(update={"role_arn": "arn:aws:iam::123456789012:role/worker"})


def test_a_role_is_assumed(role: S3Config) -> None:
    storage = open_storage("s3://renders/role", role)
    storage.put("a", b"1")
    assert storage.get("a") == b"1"


def test_credentials_of_a_role_are_taken_anew_before_they_run_out(
    role: S3Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = s3_client(role)._request_signer._credentials
    first = credentials.get_frozen_credentials()
    assert credentials.get_frozen_credentials() == first
    later = datetime.now(UTC) + timedelta(minutes=55)  # they last for an hour
    monkeypatch.setattr("botocore.credentials._local_now", lambda: later)
    monkeypatch.setattr(credentials, "_time_fetcher", lambda: later)
    assert credentials.get_frozen_credentials() != first


def test_clients_share_what_describes_s3_to_them(s3_config: S3Config) -> None:
    first, second = (s3_client(s3_config).meta.service_model for _ in range(2))
    assert first._service_description is second._service_description  # 12 MB and half a second each, else
