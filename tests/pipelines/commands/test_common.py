from __future__ import annotations

import pytest

from pipelines.commands.common import s3_config, size_text


def test_the_environment_fills_what_options_leave_open(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_REGION", "IFMDM_S3_ROLE", "IFMDM_S3_KMS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store:9000")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert s3_config().endpoint == "http://store:9000"
    assert s3_config().region == "eu-central-1"
    assert s3_config(endpoint="http://other:1").endpoint == "http://other:1"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://mine:9000")
    assert s3_config().endpoint == "http://mine:9000"
    assert s3_config(role="arn:x").role_arn == "arn:x"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (12_345, "12.3 kB"), (5e15, "5000.0 TB")]
)
def test_sizes_read_well(count: float, text: str) -> None:
    assert size_text(count) == text
