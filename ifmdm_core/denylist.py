"""Portraits that may not be animated, whoever asks: deny/<sha256>-<look>.json, each made once and never changed.

The name says all that is compared, so that one listing is the whole list; an entry is read only when it applies.
`look` is the signature of the aligned face (`media.look`), or `none`.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ifmdm_core.errors import BadInput, Forbidden, NotFound, Unavailable
from ifmdm_core.storage import Storage

FOLDER = "deny/"
FRESH_S = 30.0
"""Seconds for which the list is not looked at again."""
LEAST_DIGITS = 8
"""Of a file's sha256 that stand for it."""
NO_LOOK = "none"
_KEY = re.compile(rf"{FOLDER}(?P<sha256>[0-9a-f]{{64}})-(?P<look>none|[0-9a-f]{{4,128}})\.json")


class Denial(BaseModel):
    """Why, and whom to ask."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # a later version may say more

    layout: int = 1
    reason: str = Field(min_length=1, max_length=500)
    contact: str = Field("the operator", min_length=1, max_length=200)
    by: str = ""
    at: float = 0.0
    """Seconds since 1970."""


@dataclass(frozen=True, order=True)
class Entry:
    """What is denied: a file, and everything that looks like the face in it."""

    sha256: str
    """Of the file's bytes."""
    look: str = NO_LOOK

    @property
    def key(self) -> str:
        return f"{FOLDER}{self.sha256}-{self.look}.json"

    @classmethod
    def parse(cls, key: str) -> Entry | None:
        """None for a name that is none of ours."""
        found = _KEY.fullmatch(key)
        return cls(found["sha256"], found["look"]) if found else None

    def near(self, look: str, most: int) -> bool:
        """Whether the looks differ in `most` bits or fewer."""
        if NO_LOOK in (self.look, look) or len(look) != len(self.look):
            return False
        return (int(look, 16) ^ int(self.look, 16)).bit_count() <= most


class DenyList:
    """The list under one root. For any number of threads.

    Args:
        storage: the root.
        near: bits in which two looks of one picture may differ.
        clock: seconds that never go back.
    """

    def __init__(self, storage: Storage, near: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.storage, self._near, self._clock = storage, near, clock
        self._turn = threading.Lock()
        self._kept: tuple[float, frozenset[Entry]] | None = None

    def refuse(self, name: str, sha256: str = "", looks: Iterable[str] = ()) -> None:
        """Raises Forbidden for a portrait on the list, which messages call `name`; what raises nothing is on none.

        A list that cannot be read raises Unavailable: nothing is rendered unchecked.

        Args:
            sha256: of the file.
            looks: of the face, and of its mirror image.
        """
        known = tuple(looks)
        for entry in self._entries():
            same = entry.sha256 == sha256
            if same or any(entry.near(look, self._near) for look in known):
                self._refuse(entry, name, same)

    def all(self) -> list[tuple[Entry, Denial]]:
        """Everything on it, sorted. Raises Unavailable."""
        return [(entry, self._read(entry)) for entry in sorted(self._listed())]

    def add(self, entry: Entry, denial: Denial) -> bool:
        """Puts it there; False where it is already, and stays as it is. Raises Unavailable."""
        return self.storage.put_if_absent(entry.key, denial.model_dump_json().encode())

    def starting_with(self, digits: str) -> list[Entry]:
        """What begins with these digits of the file's sha256. Raises NotFound, BadInput for too few."""
        if len(digits) < LEAST_DIGITS or not re.fullmatch("[0-9a-f]+", digits):
            raise BadInput(
                f"{digits[:80]!r} names no entry", fix=f"give {LEAST_DIGITS} hex digits or more of it"
            )
        found = [entry for entry in self._listed() if entry.sha256.startswith(digits)]
        if not found:
            raise NotFound(f"nothing on the list begins with {digits}", fix="ifmdm jobs deny ls shows it")
        if len({entry.sha256 for entry in found}) > 1:
            raise BadInput(f"{digits} is the beginning of several entries", fix="give more digits")
        return found

    def remove(self, entry: Entry) -> None:
        """Takes it away; what is not there is no error."""
        self.storage.delete(entry.key)

    def _entries(self) -> frozenset[Entry]:
        with self._turn:
            now = self._clock()
            if self._kept is None or now - self._kept[0] > FRESH_S:
                self._kept = now, frozenset(self._listed())
            return self._kept[1]

    def _listed(self) -> list[Entry]:
        try:
            items = list(self.storage.list(FOLDER))
        except Forbidden as error:  # ours to mend, and nothing that the portrait has done
            raise Unavailable(
                f"the deny-list cannot be read: {error.what}", fix="allow reading deny/"
            ) from None
        return [entry for item in items if (entry := Entry.parse(item.key)) is not None]

    def _refuse(self, entry: Entry, name: str, same: bool) -> None:
        try:
            denial = self._read(entry)
        except NotFound:
            return  # taken off the list since it was listed
        what = "is" if same else "looks like a picture that is"
        error = Forbidden(
            f"{name} {what} on the deny-list: {denial.reason}",
            fix=f"ask {denial.contact}, entry {entry.sha256[:12]}",
        )
        error.field = "portrait"
        raise error

    def _read(self, entry: Entry) -> Denial:
        data = self.storage.get(entry.key)
        try:
            return Denial.model_validate(json.loads(data))
        except (ValueError, ValidationError):
            return Denial(reason="its entry is damaged")
