"""Outputs named after their rows: s3://bucket/out/{row:06d}-{portrait.stem}.mp4"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

from ifmdm_core.errors import BadInput, IfmdmError
from ifmdm_core.uri import Uri

_PARTS = ("stem", "name", "parent")


class Template:
    """A checked template.

    {row} is the row's number from 1; {portrait.stem}, {audio.stem} (also .name, and .parent for the folder's name);
    any other column: {labels.team}, {controls.seed}, {key}. A format may follow, as Python writes it: {row:06d}.

    Raises BadInput for what no row could fill.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._pieces = list(string.Formatter().parse(text))
        except ValueError as error:
            raise BadInput(f"template {text!r}: {error}", fix="write {{ and }} for braces") from None
        for _, name, _, conversion in self._pieces:
            if name is None:
                continue
            head, _, rest = name.partition(".")
            uri = head in ("portrait", "audio")
            if (
                conversion
                or not name
                or (uri and rest not in _PARTS)
                or not name.replace(".", "").isprintable()
            ):
                raise BadInput(
                    f"template {text!r}: {{{name}}} names nothing",
                    fix="{row}, {portrait.stem}, {audio.stem}, {labels.NAME}, {controls.NAME}",
                )

    def fill(self, row: int, values: Mapping[str, Any]) -> str:
        """The output of a row. Raises BadInput where the row lacks what the template names."""
        filled = []
        for literal, name, spec, _ in self._pieces:
            filled.append(literal)
            if name is None:
                continue
            value = self._value(name, row, values)
            if isinstance(value, str) and (spec or "").endswith("d") and value.isdigit():
                value = int(value)  # the cells of a CSV are text
            try:
                filled.append(format(value, spec or ""))
            except ValueError as error:
                raise BadInput(f"output: {{{name}:{spec}}} with {value!r}: {error}") from None
        return "".join(filled)

    def _value(self, name: str, row: int, values: Mapping[str, Any]) -> Any:
        head, _, rest = name.partition(".")
        if name == "row":
            return row
        value = values.get(head)
        if head in ("portrait", "audio") and isinstance(value, str):
            return _part(value, rest)
        if rest:
            value = value.get(rest) if isinstance(value, Mapping) else None
        if not isinstance(value, str | int | float) or value == "":
            raise BadInput(
                f"output: the template names {{{name}}}, which this row has not",
                fix=f"give {name}, or output",
            )
        return value


def _part(text: str, which: str) -> str:
    try:
        uri = Uri.parse(text)
    except IfmdmError:
        return ""  # the field's own check says more
    if which == "parent":
        return uri.path.rstrip("/").rpartition("/")[0].rpartition("/")[2]
    return uri.name.rpartition(".")[0] or uri.name if which == "stem" else uri.name
