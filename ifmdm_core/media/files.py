"""Opening what users name and publishing what we write: checks before reading, temporary file then rename."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ifmdm_core.errors import BadInput, Forbidden, NotFound, Unavailable


def input_file(path: str | os.PathLike[str], kind: str) -> Path:
    """The path of an existing, readable, non-empty regular file; `kind` ("picture", "audio") words the message.

    Raises NotFound, Forbidden or BadInput naming the file.
    """
    file = Path(path)
    try:
        if not file.exists():
            raise NotFound(f"{file}: no such {kind} file", fix="check the path")
        if not file.is_file():
            raise BadInput(f"{file}: is not a file", fix=f"give a {kind} file")
        with file.open("rb") as stream:
            if not stream.read(1):
                raise BadInput(f"{file}: the file is empty (0 bytes)", fix=f"give a complete {kind} file")
    except PermissionError as error:
        raise Forbidden(
            f"{file}: may not be read", fix="change its permissions or give another file"
        ) from error
    except (OSError, ValueError) as error:  # a name too long, a NUL in it, a device that fails
        raise BadInput(f"{str(path)[:200]!r}: cannot be opened ({error})", fix="check the path") from error
    return file


@contextmanager
def published(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary file beside `path`, renamed to it on success and removed on any failure, Ctrl-C included.

    Raises BadInput, Forbidden or Unavailable naming `path` where it cannot be written.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.stem[:100]}.{secrets.token_hex(4)}.part{target.suffix}")
    try:
        if target.is_dir():
            raise BadInput(f"{target}: is a folder", fix="give the name of the output file")
        if target.exists() and not target.is_file():
            raise BadInput(f"{target}: is not a regular file", fix="give the name of the output file")
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _unwritable(target, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _unwritable(target: Path, error: OSError) -> Exception:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return BadInput(f"{target}: its folder does not exist", fix=f"create it: mkdir -p {target.parent}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Forbidden(
            f"{target}: cannot be written ({error.strerror})", fix="choose a folder you may write to"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(
            f"{target}: no space left to write it", fix="free some space or choose another disk"
        )
    return BadInput(f"{target}: cannot be written ({error.strerror})", fix="choose another output file")
