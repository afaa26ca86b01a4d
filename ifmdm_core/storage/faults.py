"""What goes wrong on disks and in buckets, as our errors."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import Any

from ifmdm_core.errors import BadInput, DiskFull, Forbidden, IfmdmError, NotFound, Unavailable, Unsupported

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def disk_errors(name: str) -> Iterator[None]:
    """OSErrors while working on `name`, a key or a path, as ours."""
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"nothing at {name!r}") from None
    except PermissionError:
        raise Forbidden(f"no permission for {name!r}") from None
    except (IsADirectoryError, NotADirectoryError, FileExistsError):
        raise BadInput(f"{name!r} is a folder, or runs through a file") from None
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFull(
                f"no room left to write {name!r} ({error.strerror})",
                fix="free some space there or choose another disk",
            ) from None
        raise Unavailable(f"disk fault at {name!r}: {error.strerror}") from None


@contextlib.contextmanager
def s3_errors(name: str) -> Iterator[None]:
    """botocore errors as ours. Timeouts, 409 and 5xx leave the outcome of a write open: Unavailable."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, TokenRetrievalError

    try:
        yield
    except ClientError as error:
        raise _from_client_error(name, error) from None
    except (NoCredentialsError, TokenRetrievalError) as error:
        raise Forbidden(
            f"{name!r}: {error}", fix="set a profile, sign in by SSO, or set AWS_ACCESS_KEY_ID"
        ) from None
    except (BotoCoreError, Boto3Error) as error:
        raise Unavailable(f"{name!r}: {error}", retry_after=5.0) from None


def _from_client_error(name: str, error: Any) -> IfmdmError:
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    code = error.response["Error"].get("Code", "")
    if code == "NoSuchBucket":
        return no_bucket(name)
    if status == 404:
        return NotFound(f"nothing at {name!r} ({code})")
    if status in (401, 403):
        return Forbidden(f"{name!r} is refused ({code})", fix="check the credentials and the bucket's policy")
    if status == 412:
        return Unavailable(f"{name!r} was overwritten while it was read", retry_after=1.0)
    if status == 501:
        return Unsupported(f"{name!r}: the store does not know how to do this ({code})")
    if status in (408, 409, 429) or status >= 500:
        return Unavailable(f"{name!r}: the store answered {status} ({code})", retry_after=2.0)
    return BadInput(f"{name!r}: the store answered {status} ({code})")


def no_bucket(name: str) -> NotFound:
    """The error for a URI whose bucket does not exist."""
    bucket = name.removeprefix("s3://").partition("/")[0]
    return NotFound(
        f"there is no bucket {bucket!r} (NoSuchBucket, {name!r})",
        fix="check its name and the endpoint, or create it",
    )
