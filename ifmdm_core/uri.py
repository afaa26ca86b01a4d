"""Names of things: local paths, `file://` and `s3://bucket/key`, as one parsed, joinable value."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ifmdm_core.errors import BadInput, Forbidden, Unsupported

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]")
_UNFIT = re.compile(r"[\x00-\x1f\x7f\\]")


@dataclass(frozen=True)
class Uri:
    """`scheme` is "file" or "s3"; `bucket` is empty for files; `path` is a key, or a local path as given."""

    scheme: str
    bucket: str
    path: str

    @classmethod
    def parse(cls, text: str | Path) -> Uri:
        """Read a path or URI.

        Raises:
            BadInput: empty, a NUL inside, or no valid bucket.
            Unsupported: a scheme other than file and s3 (http inputs are off on purpose).
        """
        if isinstance(text, Path):
            return cls("file", "", str(text))
        if not text or "\0" in text:
            raise BadInput(f"{text!r} is no path and no URI")
        match = re.match(r"([A-Za-z][A-Za-z0-9+.\-]+):", text)  # two letters or more: C:\ is a path
        if match is None:
            return cls("file", "", text)
        scheme = match.group(1).lower()
        if scheme == "file":
            parts = urlsplit(text)
            if parts.netloc not in ("", "localhost"):
                raise Unsupported(
                    f"{text!r} names the host {parts.netloc!r}", fix="file:// URIs are local: file:///path"
                )
            return cls("file", "", unquote(parts.path))
        if scheme == "s3":
            bucket, _, key = text[match.end() :].removeprefix("//").partition("/")
            if not text[match.end() :].startswith("//") or not _BUCKET.fullmatch(bucket):
                raise BadInput(f"{text!r} names no valid bucket", fix="write s3://bucket/key")
            return cls("s3", bucket, key)
        if scheme != "models" and not text[match.end() :].startswith("//"):
            return cls("file", "", text)  # a file name with a colon in it
        raise Unsupported(f"scheme {scheme!r} of {text!r}", fix="use a local path or s3://bucket/key")

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.path}" if self.scheme == "s3" else self.path

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """Extension with its dot, lower case, or ""."""
        return Path(self.name).suffix.lower()

    def join(self, key: str) -> Uri:
        """This URI's child `key` (checked by `check_key`)."""
        check_key(key)
        base = self.path.rstrip("/")
        if self.scheme == "s3":
            return replace(self, path=f"{base}/{key}" if base else key)
        return replace(self, path=str(Path(self.path) / key))

    def inside(self, root: Uri) -> bool:
        """Whether this names something under `root`; local paths after resolving links and `..`."""
        if (self.scheme, self.bucket) != (root.scheme, root.bucket):
            return False
        if self.scheme == "file":
            return Path(self.path).resolve().is_relative_to(Path(root.path).resolve())
        if any(part in ("..", ".") for part in self.path.split("/")):
            return False
        base = root.path.rstrip("/")
        return not base or self.path == base or self.path.startswith(base + "/")


def check_key(key: str) -> str:
    """Return `key` when it is a plain relative key, the same on a folder and on S3.

    Raises:
        BadInput: empty, absolute, with empty, `.` or `..` parts, a backslash or control characters, or too long.
    """
    parts = key.split("/")
    if not key or any(part in ("", ".", "..") for part in parts):
        raise BadInput(
            f"key {key!r} is not a plain relative path", fix="use names joined by /, without . or .."
        )
    if _UNFIT.search(key):
        raise BadInput(f"key {key!r} holds a backslash or control character")
    if len(key.encode("utf-8", "surrogatepass")) > 1024 or any(
        len(part.encode("utf-8", "surrogatepass")) > 255 for part in parts
    ):
        raise BadInput(f"key {key[:60]!r}… is too long", fix="at most 1024 bytes, 255 in each part")
    try:
        key.encode("utf-8")
    except UnicodeEncodeError:
        raise BadInput(f"key {key!r} is not valid Unicode") from None
    return key


def require_inside(uri: Uri, root: Uri) -> Uri:
    """`uri` itself when it lies under `root`.

    Raises:
        Forbidden: it does not, after links and `..` are resolved.
    """
    if not uri.inside(root):
        raise Forbidden(f"{str(uri)!r} lies outside {str(root)!r}")
    return uri
