"""From a row to its job: defaults, dotted names, the output's template, then the same check as any job's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ifmdm_core.config import set_value
from ifmdm_core.errors import BadInput
from jobs.manifest.rows import Row, check_columns
from jobs.manifest.template import Template
from jobs.spec import RenderJob, parse_job


@dataclass(frozen=True)
class Defaults:
    """What holds for rows that do not say otherwise."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    """Of a job, nested as in its JSON."""
    template: Template | None = None
    """Of outputs, for rows without one."""

    def job(self, row: Row) -> RenderJob:
        """The job of a row. Raises BadInput; its `field` says which."""
        if row.fault is not None:
            raise row.fault
        values = nested(row.values)
        for name in ("controls", "labels"):
            if name in self.fields:
                values[name] = {**self.fields[name], **_mapping(values.get(name, {}), name)}
        values = {**self.fields, **values}
        if "output" not in values and self.template is not None:
            try:
                values["output"] = self.template.fill(row.number, values)
            except BadInput as error:
                error.field = "output"
                raise
        return parse_job(values)


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """{"controls.seed": 1} as {"controls": {"seed": 1}}; numbers in labels become text."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        head, dot, rest = name.partition(".")
        if not dot or head not in ("controls", "labels"):
            found[name] = value
            continue
        inside = found[head] = dict(_mapping(found.get(head, {}), head))
        inside[rest] = value
    if isinstance(found.get("labels"), Mapping):
        found["labels"] = {name: _text(value) for name, value in found["labels"].items()}
    return found


def given_fields(
    settings: list[str] | None = None, labels: list[str] | None = None, **fields: Any
) -> dict[str, Any]:
    """A job's fields from options: `--set controls.steps=4`, `--label team=a`, and those with an option of their own.

    Raises BadInput.
    """
    found = {name: value for name, value in fields.items() if value is not None}
    for setting in settings or ():
        check_columns([setting.partition("=")[0].strip()], f"--set {setting}")
        set_value(found, setting)
    for label in labels or ():
        name, equals, value = label.partition("=")
        if not equals or not name:
            raise BadInput(f"--label {label}: no name and value", fix="write it as NAME=VALUE")
        found.setdefault("labels", {})[name] = value
    return found


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        error = BadInput(f"{name} is {value!r}", fix="it must be a mapping of names")
        error.field = name
        raise error
    return value


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
