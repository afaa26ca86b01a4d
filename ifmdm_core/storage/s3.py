"""A store under `s3://bucket/prefix`."""

from __future__ import annotations

import builtins
import math
import os
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from ifmdm_core.errors import BadInput, Forbidden, NotFound, Unavailable, Unsupported
from ifmdm_core.storage.clients import S3Config, arrow_filesystem, s3_client
from ifmdm_core.storage.faults import disk_errors, no_bucket, s3_errors
from ifmdm_core.storage.protocol import Item, check_folder, check_prefix, check_seconds
from ifmdm_core.storage.s3_requests import (
    delete_conditionally,
    download,
    put_conditionally,
    refuses_conditions,
)
from ifmdm_core.storage.temporary import temp_beside
from ifmdm_core.uri import Uri, check_key

LIST_PAGE = 1000
"""Keys asked for in one listing request; the most S3 gives."""
PART_SIZE = 16 << 20
"""Bytes of one part of a multipart upload; files of up to two parts go in one request."""
_ONE_REQUEST = 5 << 30  # bytes that a PUT takes
_DIGEST = "ifmdm-sha256"  # name in an object's metadata
_ARROW_S = 600.0  # seconds that a pyarrow filesystem is kept: its credentials are frozen and may run out


class S3Storage:
    """A store under `s3://bucket/prefix`."""

    def __init__(self, root: Uri, config: S3Config) -> None:
        self.root = root
        self._config = config
        self._client = s3_client(config)
        # A conditional put that is retried inside the client meets its own first write and reports a loss.
        self._once = s3_client(config, attempts=1)
        self._prefix = root.path.rstrip("/") + "/" if root.path.rstrip("/") else ""
        self._bucket_is_there = False
        self._presigning: Any = None
        self._arrow: Any = None
        self._arrow_since = -math.inf

    def get(self, key: str) -> bytes:
        with s3_errors(self._named(key)):
            reply = self._client.get_object(Bucket=self.root.bucket, Key=self._key(key))
            body: bytes = reply["Body"].read()
            return body

    def start(self, key: str, size: int) -> bytes:
        from botocore.exceptions import ClientError

        with s3_errors(self._named(key)):
            try:
                reply = self._client.get_object(
                    Bucket=self.root.bucket, Key=self._key(key), Range=f"bytes=0-{size - 1}"
                )
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 416:  # no first byte: it is empty
                    return b""
                raise
            body: bytes = reply["Body"].read()
            return body

    def put(self, key: str, data: bytes) -> None:
        with s3_errors(self._named(key)):
            self._client.put_object(
                Bucket=self.root.bucket, Key=self._key(key), Body=data, **self._encryption()
            )

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with s3_errors(self._named(key)):
            return put_conditionally(
                self._once, None, Bucket=self.root.bucket, Key=self._key(key), Body=data, **self._encryption()
            )

    def place(self, key: str, path: Path, sha256: str, over: str | None = None) -> bool:
        from botocore.exceptions import ClientError

        with disk_errors(str(path)):
            source = path.open("rb")
        with source:
            if os.fstat(source.fileno()).st_size > _ONE_REQUEST:
                raise BadInput(f"{str(path)!r} is larger than the 5 GiB that S3 takes in one request")
            what = {"Bucket": self.root.bucket, "Key": self._key(key), "Body": source, **self._encryption()}
            what["Metadata"] = {_DIGEST: sha256}
            if key.endswith(".mp4"):
                what["ContentType"] = "video/mp4"
            with s3_errors(self._named(key)):
                try:
                    return put_conditionally(self._once, over, **what)
                except ClientError as error:
                    if not refuses_conditions(error):
                        raise
                    item = self.info(key)
                    if (item.etag if item else None) != over:
                        return False
                    source.seek(0)
                    self._once.put_object(**what)
                    return True

    def fetch(self, key: str, path: Path) -> None:
        name = self._named(key)
        with disk_errors(str(path)), temp_beside(path) as (file, temp), s3_errors(name):
            download(self._client, self.root.bucket, self._key(key), file)
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
        head = self._head(key)
        if head is None:
            return None
        return Item(key, head["ContentLength"], head["LastModified"], head["ETag"].strip('"'))

    def age(self, key: str) -> float | None:
        head = self._head(key)
        if head is None:
            return None
        now = head["ResponseMetadata"]["HTTPHeaders"].get("date")
        if now is None:
            raise Unsupported(f"{self._named(key)!r}: the store's answers have no Date, so it tells no ages")
        age: float = (parsedate_to_datetime(now) - head["LastModified"]).total_seconds()
        return age

    def digest(self, key: str) -> str | None:
        head = self._head(key)
        return None if head is None else str(head["Metadata"].get(_DIGEST, ""))

    def list(self, prefix: str = "", limit: int | None = None) -> Iterator[Item]:
        check_prefix(prefix)
        if limit is not None and limit < 1:
            return
        size = min(LIST_PAGE, limit or LIST_PAGE)
        with s3_errors(self._named(prefix)):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.root.bucket,
                Prefix=self._prefix + prefix,
                PaginationConfig={"PageSize": size, "MaxItems": limit},
            )
            for page in pages:
                for entry in page.get("Contents", ()):
                    key = entry["Key"][len(self._prefix) :]
                    yield Item(key, entry["Size"], entry["LastModified"], entry["ETag"].strip('"'))

    def folders(self, prefix: str = "") -> builtins.list[str]:
        check_folder(prefix)
        start = self._prefix + prefix
        with s3_errors(self._named(prefix)):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.root.bucket,
                Prefix=start,
                Delimiter="/",
                PaginationConfig={"PageSize": LIST_PAGE},
            )
            found = (entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", ()))
            return sorted(name[len(start) : -1] for name in found)

    def delete(self, key: str) -> None:
        with s3_errors(self._named(key)):
            self._client.delete_object(Bucket=self.root.bucket, Key=self._key(key))

    def delete_if(self, key: str, etag: str) -> bool:
        from botocore.exceptions import ClientError

        with s3_errors(self._named(key)):
            try:
                deleted = delete_conditionally(
                    self._client, etag, Bucket=self.root.bucket, Key=self._key(key)
                )
            except ClientError as error:
                if not refuses_conditions(error):
                    raise
                item = self.info(key)
                if item is not None and item.etag != etag:
                    return False
                self.delete(key)
                return True
            return deleted or self.info(key) is None  # some refuse the condition where nothing is there

    def presigned(self, key: str, seconds: int) -> str:
        check_seconds(seconds)
        if self._presigning is None:
            self._presigning = s3_client(self._config, presigning=True)
        with s3_errors(self._named(key)):
            return str(
                self._presigning.generate_presigned_url(
                    "get_object", {"Bucket": self.root.bucket, "Key": self._key(key)}, seconds
                )
            )

    def versioned(self) -> bool | None:
        try:
            with s3_errors(str(self.root)):
                reply = self._client.get_bucket_versioning(Bucket=self.root.bucket)
        except (Forbidden, Unsupported, BadInput):  # not for us to know, or nothing the store knows
            return None
        return reply.get("Status") == "Enabled"

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

    def _head(self, key: str) -> dict[str, Any] | None:
        """The answer to a HEAD; None when absent."""
        from botocore.exceptions import ClientError

        name = self._named(key)
        with s3_errors(name):
            try:
                head: dict[str, Any] = self._client.head_object(Bucket=self.root.bucket, Key=self._key(key))
                return head
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                    raise
                self._require_bucket(name)  # a HEAD's answer has no body that says what is absent
                return None

    def _require_bucket(self, name: str) -> None:
        """Raises NotFound where there is no bucket; asked once, since buckets seldom go."""
        from botocore.exceptions import ClientError

        if self._bucket_is_there:
            return
        try:
            self._client.head_bucket(Bucket=self.root.bucket)
            self._bucket_is_there = True
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
