"""Bytes and files by key on a folder or a bucket: get, put, put_if_absent, fetch, upload, info, list, delete.

The only module that builds S3 clients (boto3 and pyarrow, from one `S3Config`). `put_if_absent` is the primitive
that everything durable stands on: of any number of racing writers of a key exactly one gets True.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from typing import IO, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.errors import BadInput, Forbidden, NotFound, Unavailable
from ifmdm_core.storage_faults import disk_errors, no_bucket, s3_errors
from ifmdm_core.uri import Uri, check_key

LIST_PAGE = 1000
"""Keys asked for in one listing request; the most S3 gives."""
PART_SIZE = 16 << 20
"""Bytes of one part of a multipart upload; files of up to two parts go in one request."""
_CHUNK = 1 << 20
_CUTS = 5  # times a download goes on after its connection broke without a byte more
_TEMP_PREFIX = ".ifmdm-tmp-"
_ARROW_S = 600.0  # seconds that a pyarrow filesystem is kept: its credentials are frozen and may run out


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


@dataclass(frozen=True)
class Item:
    """One listed object."""

    key: str
    size: int
    """bytes"""
    modified: datetime
    """by the store's clock, UTC"""
    etag: str = ""
    """changes when the object is written again: S3's ETag, a file's modification time in nanoseconds"""


class Storage(Protocol):
    """What both kinds of store offer; keys are relative to the store's root and checked by `check_key`."""

    root: Uri

    def get(self, key: str) -> bytes:
        """The bytes of `key`; NotFound when absent."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write `key` whole; readers see the old or the new bytes, never a mixture."""
        ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write `key` only if nothing is there: True for the one writer that did, False for the others.

        Raises:
            Unavailable: the store's answer leaves open whether the write happened; read `key` back.
        """
        ...

    def fetch(self, key: str, path: Path) -> None:
        """Download `key` to the local file `path`, streamed; `path` appears complete or not at all.

        Raises:
            NotFound: nothing at `key`.
            DiskFull: no room at `path`.
        """
        ...

    def upload(self, key: str, path: Path) -> None:
        """A finished local file becomes `key`, whole or not at all; whatever was at `key` is replaced.

        Raises:
            NotFound: no file at `path`, or no bucket.
            DiskFull: no room in the store.
        """
        ...

    def local_path(self, key: str) -> Path | None:
        """Where `key` lies as a local file, which may be absent; None for a store that is not on this disk."""
        ...

    def arrow_file(self, key: str) -> Any:
        """`key` as a seekable pyarrow file, to read parts of it without the rest: mapped, or read in ranges.

        Raises:
            NotFound: nothing at `key`.
        """
        ...

    def info(self, key: str) -> Item | None:
        """Size, time and ETag of `key` without its bytes; None when absent."""
        ...

    def list(self, prefix: str = "") -> Iterator[Item]:
        """Objects whose key starts with `prefix`, in the order of their keys' UTF-8 bytes."""
        ...

    def delete(self, key: str) -> None:
        """Remove `key`; removing what is absent is no error."""
        ...


def open_storage(root: str | Path | Uri, config: S3Config | None = None) -> Storage:
    """The store at a folder path or `s3://bucket/prefix`."""
    uri = root if isinstance(root, Uri) else Uri.parse(root)
    return S3Storage(uri, config or S3Config()) if uri.scheme == "s3" else FolderStorage(uri)


class FolderStorage:
    """A store in a local folder; the folder is made on the first write."""

    def __init__(self, root: Uri) -> None:
        self.root = root
        self._folder = Path(root.path).resolve()

    def get(self, key: str) -> bytes:
        with disk_errors(key):
            return self._path(key).read_bytes()

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        with disk_errors(key), _temp_beside(path) as (file, temp):
            file.write(data)
            _sync(file)
            os.replace(temp, path)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        with disk_errors(key), _temp_beside(path) as (file, temp):
            file.write(data)
            _sync(file)
            try:
                os.link(temp, path)  # atomic, and fails where the name exists
            except FileExistsError:
                return False
            return True

    def fetch(self, key: str, path: Path) -> None:
        with disk_errors(key):
            source = self._path(key).open("rb")
        with source, disk_errors(str(path)), _temp_beside(path) as (file, temp):
            shutil.copyfileobj(source, file, _CHUNK)
            file.flush()
            os.replace(temp, path)

    def upload(self, key: str, path: Path) -> None:
        with disk_errors(str(path)):
            source = path.open("rb")
        target = self._path(key)
        with source, disk_errors(key), _temp_beside(target) as (file, temp):
            shutil.copyfileobj(source, file, _CHUNK)
            _sync(file)
            os.replace(temp, target)

    def local_path(self, key: str) -> Path | None:
        return self._path(key)

    def arrow_file(self, key: str) -> Any:
        import pyarrow as pa

        try:
            return pa.memory_map(str(self._path(key)))
        except FileNotFoundError:
            raise NotFound(f"{key} does not exist in {self._folder}") from None

    def info(self, key: str) -> Item | None:
        with disk_errors(key):
            return self._item(key, self._path(key))

    def list(self, prefix: str = "") -> Iterator[Item]:
        _check_prefix(prefix)
        start = self._folder / prefix.rpartition("/")[0]
        found = []
        with disk_errors(str(start)):
            for folder, _, names in os.walk(start, onerror=_unless_gone):
                for name in names:
                    path = Path(folder) / name
                    key = path.relative_to(self._folder).as_posix()
                    if key.startswith(prefix) and not name.startswith(_TEMP_PREFIX):
                        found.append((key, path))
        for key, path in sorted(found, key=lambda pair: pair[0].encode("utf-8", "surrogateescape")):
            item = self._item(key, path)
            if item is not None:  # else deleted while we listed
                yield item

    def delete(self, key: str) -> None:
        with disk_errors(key), contextlib.suppress(FileNotFoundError):
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        check_key(key)
        if key.rpartition("/")[2].startswith(_TEMP_PREFIX):
            raise BadInput(f"key {key!r} starts with {_TEMP_PREFIX!r}, which is reserved")
        path = self._folder / key
        if not path.parent.resolve().is_relative_to(self._folder):
            raise Forbidden(f"key {key!r} leaves {str(self._folder)!r} by a link")
        return path

    def _item(self, key: str, path: Path) -> Item | None:
        try:
            stat = path.stat()
        except FileNotFoundError:
            return None
        if not S_ISREG(stat.st_mode):
            return None
        return Item(key, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC), str(stat.st_mtime_ns))


class S3Storage:
    """A store under `s3://bucket/prefix`."""

    def __init__(self, root: Uri, config: S3Config) -> None:
        self.root = root
        self._config = config
        self._client = s3_client(config)
        # A conditional put that is retried inside the client meets its own first write and reports a loss.
        self._once = s3_client(config, attempts=1)
        self._prefix = root.path.rstrip("/") + "/" if root.path.rstrip("/") else ""
        self._arrow: Any = None
        self._arrow_since = -math.inf

    def get(self, key: str) -> bytes:
        with s3_errors(self._named(key)):
            reply = self._client.get_object(Bucket=self.root.bucket, Key=self._key(key))
            body: bytes = reply["Body"].read()
            return body

    def put(self, key: str, data: bytes) -> None:
        with s3_errors(self._named(key)):
            self._client.put_object(
                Bucket=self.root.bucket, Key=self._key(key), Body=data, **self._encryption()
            )

    def put_if_absent(self, key: str, data: bytes) -> bool:
        from botocore.exceptions import ClientError

        with s3_errors(self._named(key)):
            try:
                self._once.put_object(
                    Bucket=self.root.bucket,
                    Key=self._key(key),
                    Body=data,
                    IfNoneMatch="*",
                    **self._encryption(),
                )
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 412:
                    return False
                raise
            return True

    def fetch(self, key: str, path: Path) -> None:
        name = self._named(key)
        with disk_errors(str(path)), _temp_beside(path) as (file, temp), s3_errors(name):
            self._download(self._key(key), file)
            file.flush()
            os.replace(temp, path)

    def upload(self, key: str, path: Path) -> None:
        from boto3.s3.transfer import TransferConfig

        parts = TransferConfig(
            multipart_threshold=2 * PART_SIZE, multipart_chunksize=PART_SIZE, max_concurrency=4
        )
        with disk_errors(str(path)):
            source = path.open("rb")
        with source, s3_errors(self._named(key)):
            self._client.upload_fileobj(
                source, self.root.bucket, self._key(key), ExtraArgs=self._encryption(), Config=parts
            )

    def local_path(self, key: str) -> Path | None:
        return None

    def info(self, key: str) -> Item | None:
        from botocore.exceptions import ClientError

        name = self._named(key)
        with s3_errors(name):
            try:
                head = self._client.head_object(Bucket=self.root.bucket, Key=self._key(key))
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                    raise
                self._require_bucket(name)  # a HEAD's answer has no body that says what is absent
                return None
        return Item(key, head["ContentLength"], head["LastModified"], head["ETag"].strip('"'))

    def list(self, prefix: str = "") -> Iterator[Item]:
        _check_prefix(prefix)
        with s3_errors(self._named(prefix)):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.root.bucket,
                Prefix=self._prefix + prefix,
                PaginationConfig={"PageSize": LIST_PAGE},
            )
            for page in pages:
                for entry in page.get("Contents", ()):
                    key = entry["Key"][len(self._prefix) :]
                    yield Item(key, entry["Size"], entry["LastModified"], entry["ETag"].strip('"'))

    def delete(self, key: str) -> None:
        with s3_errors(self._named(key)):
            self._client.delete_object(Bucket=self.root.bucket, Key=self._key(key))

    def arrow_file(self, key: str) -> Any:
        name = self._named(key)
        if time.monotonic() - self._arrow_since > _ARROW_S:
            self._arrow, self._arrow_since = arrow_filesystem(self._config), time.monotonic()
        try:
            return self._arrow.open_input_file(f"{self.root.bucket}/{self._key(key)}")
        except FileNotFoundError:
            raise NotFound(f"{name} does not exist") from None
        except OSError as error:
            raise Unavailable(f"{name}: {error}") from None

    def _download(self, key: str, file: IO[bytes]) -> None:
        """The bytes of one version of an object; a broken connection goes on where it stopped."""
        from botocore.exceptions import IncompleteReadError, ReadTimeoutError, ResponseStreamingError

        options: dict[str, str] = {}
        done, cuts = 0, 0
        while True:
            reply = self._client.get_object(Bucket=self.root.bucket, Key=key, **options)
            try:
                for chunk in reply["Body"].iter_chunks(_CHUNK):
                    file.write(chunk)
                    done, cuts = done + len(chunk), 0
                return
            except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError):
                cuts += 1
                if cuts == _CUTS:
                    raise
                options = {"Range": f"bytes={done}-", "IfMatch": options.get("IfMatch", reply["ETag"])}

    def _require_bucket(self, name: str) -> None:
        from botocore.exceptions import ClientError

        try:
            self._client.head_bucket(Bucket=self.root.bucket)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                raise no_bucket(name) from None

    def _key(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _named(self, key: str) -> str:
        return f"s3://{self.root.bucket}/{self._prefix}{key}"

    def _encryption(self) -> dict[str, str]:
        key = self._config.kms_key_id
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {}


def s3_client(config: S3Config, attempts: int = 5) -> Any:
    """A boto3 S3 client. `attempts` counts the first try."""
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    path_style = config.path_style if config.path_style is not None else config.endpoint is not None
    options = Config(
        connect_timeout=config.connect_timeout_s,
        read_timeout=config.read_timeout_s,
        retries={"total_max_attempts": attempts, "mode": "standard"},
        s3={"addressing_style": "path"} if path_style else None,
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
    if config.role_arn is None:
        return session
    with s3_errors(config.role_arn):
        reply = session.client("sts").assume_role(RoleArn=config.role_arn, RoleSessionName="ifmdm")
    temporary = reply["Credentials"]
    return boto3.Session(
        aws_access_key_id=temporary["AccessKeyId"],
        aws_secret_access_key=temporary["SecretAccessKey"],
        aws_session_token=temporary["SessionToken"],
        region_name=session.region_name,
    )


def _check_prefix(prefix: str) -> None:
    if prefix.startswith("/") or any(part in ("..", ".") for part in prefix.split("/")) or "\0" in prefix:
        raise BadInput(f"prefix {prefix!r} is not a plain relative path")


@contextlib.contextmanager
def _temp_beside(path: Path) -> Iterator[tuple[IO[bytes], str]]:
    """An open temporary file in the folder of `path` and its name; gone afterwards unless renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temp = tempfile.mkstemp(prefix=_TEMP_PREFIX, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file, temp
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
