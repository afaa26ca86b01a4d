"""What is wrong with a manifest: in which file, at which field, why, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ifmdm_core.errors import nearest


@dataclass(frozen=True)
class Fault:
    """One line of `python -m infra.kuberay.validate`."""

    file: str
    path: str
    """Of the field: RayService/ifmdm spec.rayClusterConfig.headGroupSpec"""
    reason: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.file}: {self.path}: {self.reason}" + (f"; {self.fix}" if self.fix else "")


@dataclass(frozen=True)
class Place:
    """A part of a document, with where it is."""

    file: str
    path: str
    value: Any

    def at(self, *keys: str | int) -> Place:
        """A part of this part; one that is not there is an empty mapping."""
        place, value = self.path, self.value
        for key in keys:
            dot = "" if place.endswith(" ") else "."
            place += f"[{key}]" if isinstance(key, int) else f"{dot}{key}"
            inside = isinstance(value, dict) and key in value
            inside = inside or (isinstance(value, list) and isinstance(key, int) and key < len(value))
            value = value[key] if inside else {}
        return Place(self.file, place, value)

    def each(self) -> Iterator[Place]:
        """The items of a list, or the values of a mapping."""
        keys: Iterable[Any] = ()
        if isinstance(self.value, list):
            keys = range(len(self.value))
        elif isinstance(self.value, dict):
            keys = list(self.value)
        for key in keys:
            yield self.at(key)

    def fault(self, reason: str, fix: str = "") -> Fault:
        """Something is wrong here."""
        return Fault(self.file, self.path, reason, fix)

    def unknown(self, kind: str, name: str, valid: Sequence[str] | Iterable[str]) -> Fault:
        """`name` is none of the valid names of a `kind`."""
        return self.fault(f"unknown {kind} {name!r}", nearest(name, valid))

    def keys_among(self, kind: str, valid: Iterable[str]) -> Iterator[Fault]:
        """A fault for each key of this mapping that is not among the valid ones."""
        known = set(valid)
        for key in self.value if isinstance(self.value, dict) else ():
            if key not in known:
                yield self.unknown(kind, str(key), known)
