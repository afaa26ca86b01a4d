"""`ifmdm jobs deny add | ls | rm`: portraits that nobody may animate. Reads pictures, so it needs more than jobs do."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ifmdm_core.audit import ALL, AuditLog
from ifmdm_core.denylist import NO_LOOK, Denial, DenyList, Entry
from ifmdm_core.errors import BadInput, NotFound
from jobs.commands.options import (
    EndpointOption,
    JsonOption,
    ProfileOption,
    RoleOption,
    RootOption,
    command_app,
    print_json,
)
from jobs.commands.oversight import open_overseen
from jobs.commands.tables import print_table
from jobs.store import JobStore
from jobs.timeline import clock_time

app = command_app()

SIDE = 256
"""Pixels of the crop that a look is taken of; it hardly depends on them."""


@app.callback()
def deny() -> None:
    """Portraits that nobody may animate, by their file and by the look of their face."""


@app.command()
def add(
    photo: Annotated[str, typer.Argument(metavar="PHOTO", help="a picture", show_default=False)],
    reason: Annotated[str, typer.Option(help="which the refused user reads")],
    contact: Annotated[str, typer.Option(help="whom the refused user may ask")] = "the operator",
    face: Annotated[
        str, typer.Option(metavar="auto|N|x,y,w,h", help="which face, where there are several")
    ] = "auto",
    file_only: Annotated[
        bool, typer.Option("--file-only", help="these very bytes only, whatever face is in them")
    ] = False,
    as_json: JsonOption = False,
    root: RootOption = None,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Put a picture on the list: its bytes, and everything whose face looks the same (copies, not other photos).

    Workers and gateways know of it within half a minute; what is being rendered then is finished.
    """
    store = open_overseen(root, endpoint, profile, role)
    entry = _entry(photo, face, file_only)
    denial = Denial(reason=reason, contact=contact, by=store.by, at=store.clock.now())
    # First what is going to happen: an entry that nobody wrote down is what `ifmdm jobs audit --verify` looks for.
    _log(store).change(ALL, "portrait denied", store.by, entry.sha256, {"look": entry.look}, reason)
    added = DenyList(store.storage).add(entry, denial)
    if as_json:
        print_json({"added": added, **asdict(entry)})
    else:
        print(
            f"{entry.sha256} {'is on the list now' if added else 'was on the list already, and stays as it was'}"
        )


@app.command()
def ls(
    as_json: JsonOption = False,
    root: RootOption = None,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """List what is denied, and why."""
    found = DenyList(open_overseen(root, endpoint, profile, role).storage).all()
    if as_json:
        print_json([{**asdict(entry), **denial.model_dump(mode="json")} for entry, denial in found])
        return
    rows = [
        (e.sha256[:12], "file" if e.look == NO_LOOK else "file, look", clock_time(d.at)[:-4], d.by, d.reason, d.contact)
        for e, d in found
    ]  # fmt: skip
    print_table(("file", "by", "since", "who", "reason", "contact"), rows)


@app.command()
def rm(
    digest: Annotated[
        str, typer.Argument(metavar="DIGITS", help="first digits of the file's sha256", show_default=False)
    ],
    reason: Annotated[str, typer.Option(help="for the audit log")] = "",
    as_json: JsonOption = False,
    root: RootOption = None,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Take a picture off the list."""
    store = open_overseen(root, endpoint, profile, role)
    denied = DenyList(store.storage)
    found = denied.starting_with(digest)
    for entry in found:
        _log(store).change(ALL, "denial lifted", store.by, entry.sha256, {"look": entry.look}, reason)
        denied.remove(entry)
    if as_json:
        print_json([asdict(entry) for entry in found])
    else:
        print(f"{found[0].sha256} is off the list")


def _log(store: JobStore) -> AuditLog:
    return AuditLog(store.storage, store.by, store.clock.now)


def _entry(photo: str, face: str, file_only: bool) -> Entry:
    """Raises NotFound, BadInput for no picture, or none with a face."""
    try:
        data = Path(photo).read_bytes()
    except OSError as error:
        raise NotFound(f"{photo!r} cannot be read: {error.strerror}", fix="check the path") from None
    sha256 = hashlib.sha256(data).hexdigest()
    if file_only:
        return Entry(sha256)
    from ifmdm_core.config import validate
    from ifmdm_core.controls import RenderControls
    from ifmdm_core.media.look import look
    from ifmdm_core.portrait import open_portrait

    controls = validate(RenderControls, {"face": face}, where="--face")
    try:
        return Entry(sha256, look(open_portrait(data, controls, SIDE).crop))
    except BadInput as error:
        error.what = f"{photo!r}: {error.what}"
        error.fix = "choose the face with --face, or deny these bytes alone with --file-only"
        raise
