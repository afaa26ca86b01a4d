"""Networks in a configuration: a preset by name, and fields that differ from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

PRESETS = ("demo", "paper")


def expanded(values: Any, preset: Callable[[Any], BaseModel], group: str = "model") -> Any:
    """Raw values with `{group: {preset: demo, width: 128}}` written out; for a validator that runs first.

    Raises:
        ValueError: no such preset.
    """
    if not isinstance(values, Mapping) or not isinstance(values.get(group, {}), Mapping):
        return values
    given = dict(values.get(group, {}))
    name = given.pop("preset", None)
    if name is None and given:
        return values
    name = name or "demo"
    if name not in PRESETS:
        raise ValueError(f"{group}.preset {name!r} must be one of: {', '.join(PRESETS)}")
    return {**values, group: {**preset(name).model_dump(), **given}}
