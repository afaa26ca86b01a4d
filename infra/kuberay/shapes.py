"""Names and types of every object: against manifests.schema.json, unknown fields refused with the nearest name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from ifmdm_core.errors import nearest
from infra.kuberay.faults import Fault, Place
from infra.kuberay.reduce import SCHEMA


def shape_faults(place: Place) -> Iterator[Fault]:
    """What is wrong with the fields of one object."""
    kind = place.value.get("kind") if isinstance(place.value, dict) else None
    kinds = _schema()["kinds"]
    if kind not in kinds:
        yield place.at("kind").fault(f"unknown kind {kind!r}", nearest(str(kind), kinds))
        return
    yield from faults_by(_validator(str(kind)), place)


def faults_by(validator: Any, place: Place) -> Iterator[Fault]:
    """What a validator of jsonschema finds in a part of a document, in our words."""
    for error in validator.iter_errors(place.value):
        at = place.at(*error.absolute_path)
        if error.validator == "additionalProperties" and isinstance(error.instance, dict):
            known = error.schema.get("properties", {})
            for name in error.instance:
                if name not in known:
                    yield at.fault(f"unknown field {name!r}", nearest(str(name), known))
        elif error.validator == "required":
            missing = [name for name in error.validator_value if name not in error.instance]
            yield at.fault(f"{', '.join(map(repr, missing))} is missing")
        elif error.validator in ("enum", "const"):
            valid = error.validator_value if error.validator == "enum" else [error.validator_value]
            yield at.fault(
                f"{error.instance!r} is not possible", nearest(str(error.instance), map(str, valid))
            )
        else:
            shown = error.message if len(error.message) < 200 else f"{error.message[:200]}…"
            yield at.fault(shown)


@cache
def _schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(SCHEMA.read_text())
    return found


@cache
def _validator(kind: str) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator({"$defs": _schema()["$defs"], **_schema()["kinds"][kind]})
