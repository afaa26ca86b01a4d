"""The inputs of a task as local files: the version that was pinned, within the limits, of the right kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ifmdm_core.errors import BadInput, Conflict, IfmdmError, NotFound
from ifmdm_core.storage import Item
from jobs.rendering.contract import Source
from jobs.rendering.file_kinds import HEAD

MB = 1_000_000

Check = Callable[[bytes, str], None]
"""Of a file's first bytes and its name in messages; see `file_kinds`."""


def fetch(source: Source, field: str, most_mb: float, check: Check, target: Path) -> int:
    """Downloads an input to `target`; its size in bytes.

    Args:
        field: portrait or audio, for messages.
        most_mb: most MB.

    Raises:
        NotFound: nothing there. Conflict: not the version that was pinned. BadInput: empty, too large, another kind.
        Forbidden, Unavailable: the store's.
    """
    with named(field, source):
        found = _pinned(source)
        if found.size > most_mb * MB:
            raise BadInput(
                f"has {found.size / MB:.1f} MB; at most {most_mb:g} are taken",
                fix="make the picture smaller or cut the recording",
                too_large=True,
            )
        if found.size == 0:
            raise BadInput("is empty (0 bytes)", fix="give a complete file")
        source.storage.fetch(source.key, target)
        _pinned(source)  # still: so what came is that version
        with target.open("rb") as file:
            check(file.read(HEAD), name_of(field, source))
        return found.size


def name_of(field: str, source: Source) -> str:
    """What messages call an input."""
    return f"{field} {str(source.uri)!r}"


@contextmanager
def named(field: str, source: Source) -> Iterator[None]:
    """Errors of ours inside begin with the field and the URI, and carry the field."""
    try:
        yield
    except IfmdmError as error:
        error.field, name = field, name_of(field, source)
        if not error.what.startswith(name):
            error.what = f"{name}: {error.what}"
        raise


def _pinned(source: Source) -> Item:
    found = source.storage.info(source.key)
    if found is None:
        raise NotFound("there is nothing", fix="put it back, or submit the job with what is there")
    if found.etag != source.etag:
        raise Conflict(
            f"was changed after the job was submitted: its ETag is {found.etag}, pinned was {source.etag}",
            fix="submit the job again to render what is there now",
        )
    return found
