"""Requests to S3 with more to them than one call: conditions, and downloads that survive a broken connection."""

from __future__ import annotations

from typing import IO, Any

from ifmdm_core.storage.temporary import CHUNK

_CUTS = 5  # times a download goes on after its connection broke without a byte more


def put_conditionally(client: Any, over: str | None, **what: Any) -> bool:
    """put_object if nothing is there, or only over the version `over`; False when that is not what is there."""
    from botocore.exceptions import ClientError

    condition = {"IfNoneMatch": "*"} if over is None else {"IfMatch": f'"{over}"'}
    try:
        client.put_object(**what, **condition)
    except ClientError as error:
        if _status(error) == 412 or (over is not None and _no_such_key(error)):
            return False
        raise
    return True


def delete_conditionally(client: Any, etag: str, **what: Any) -> bool:
    """delete_object only the version `etag`; False when that is not what is there."""
    from botocore.exceptions import ClientError

    try:
        client.delete_object(**what, IfMatch=f'"{etag}"')
    except ClientError as error:
        if _no_such_key(error):
            return True
        if _status(error) == 412:
            return False
        raise
    return True


def refuses_conditions(error: Any) -> bool:
    """Whether a ClientError may mean that the store knows no such condition; then it changed nothing."""
    return _status(error) in (400, 501)


def _status(error: Any) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def _no_such_key(error: Any) -> bool:
    return _status(error) == 404 and error.response["Error"].get("Code") != "NoSuchBucket"


def download(client: Any, bucket: str, key: str, file: IO[bytes]) -> None:
    """The bytes of one version of an object; a broken connection goes on where it stopped."""
    from botocore.exceptions import IncompleteReadError, ReadTimeoutError, ResponseStreamingError

    options: dict[str, str] = {}
    done, cuts = 0, 0
    while True:
        reply = client.get_object(Bucket=bucket, Key=key, **options)
        try:
            for chunk in reply["Body"].iter_chunks(CHUNK):
                file.write(chunk)
                done, cuts = done + len(chunk), 0
            return
        except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError):
            cuts += 1
            if cuts == _CUTS:
                raise
            options = {"Range": f"bytes={done}-", "IfMatch": options.get("IfMatch", reply["ETag"])}
