"""Typed configuration: YAML or JSON files and `--set a.b=c`, checked against a pydantic model at once.

Unknown keys are refused with the nearest valid name, so a typo never passes silently.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from ifmdm_core.errors import BadInput, NotFound, nearest

Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], values: Mapping[str, Any], where: str = "") -> Model:
    """Build `model` from `values`.

    Args:
        where: what the values came from ("serve.yaml", "--pose"), quoted in errors.

    Raises:
        BadInput: one line for the first fault: the field, the value, what is allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _explain(model, error, where) from None


def load_config(model: type[Model], path: str | Path | None = None, overrides: Iterable[str] = ()) -> Model:
    """Read `path` (YAML or JSON; None is an empty one), apply `a.b=c` overrides, and validate.

    Raises:
        NotFound: no such file.
        BadInput: not YAML/JSON, an unknown key, or a value out of range.
    """
    values = read_mapping(path) if path is not None else {}
    for override in overrides:
        set_value(values, override)
    return validate(model, values, where=str(path) if path is not None else "--set")


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML (`.yaml`, `.yml`) or JSON file."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"no configuration file {str(path)!r}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read configuration {str(path)!r}: {error}") from None
    if path.suffix == ".json":
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise BadInput(f"{str(path)!r} is not JSON: {error}") from None
    else:
        values = _parse_yaml(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise BadInput(f"{str(path)!r} holds a {type(values).__name__}", fix="it must be a mapping of names")
    return values


def set_value(values: dict[str, Any], override: str) -> None:
    """Apply one `a.b=c` to nested `values`; c is read as YAML where that is installed, else as JSON or text."""
    name, equals, text = override.partition("=")
    keys = [key.strip() for key in name.split(".")]
    if not equals or not all(keys):
        raise BadInput(
            f"override {override!r} is not a setting", fix="write it as name=value or group.name=value"
        )
    at: Any = values
    for key in keys[:-1]:
        at = at.setdefault(key, {})
        if not isinstance(at, dict):
            raise BadInput(f"override {override!r}: {key!r} holds a value, not a group")
    at[keys[-1]] = _parse_scalar(text)


def _parse_yaml(text: str, where: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise NotFound(
            f"cannot read {where!r}: YAML needs the package pyyaml", fix="or write it as .json"
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadInput(f"{where!r} is not YAML: {error}") from None


def _parse_scalar(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _explain(model: type[BaseModel], error: ValidationError, where: str) -> BadInput:
    """The first fault of a pydantic error as our one line."""
    faults = error.errors(include_url=False)
    # A union reports one fault per branch; an unknown name explains a missing one, so it comes first.
    fault = min(faults, key=lambda f: f["type"] != "extra_forbidden")
    path = _field_path(model, fault["loc"])
    name = ".".join(map(str, path))
    prefix = f"{where}: " if where else ""
    if fault["type"] == "extra_forbidden":
        owner = _model_at(model, path[:-1]) or model
        ours = BadInput(f"{prefix}unknown setting {name!r}", fix=nearest(str(path[-1]), owner.model_fields))
    elif fault["type"] == "missing" and len(path) == len(fault["loc"]):
        ours = BadInput(f"{prefix}setting {name!r} is missing")
    else:
        same = [f for f in faults if _field_path(model, f["loc"]) == path]
        value = _value_at(same)
        rules = dict.fromkeys(_rule(f) for f in same)
        ours = BadInput(f"{prefix}{name} is {value!r}", fix=" or ".join(rules))
    ours.field = name
    return ours


def _rule(fault: Any) -> str:
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "missing":  # a tuple of the wrong length
        return "four numbers x,y,w,h" if "tuple" in str(fault["loc"]) else "more values"
    message = message.removeprefix("Input ")
    return message[0].lower() + message[1:]


def _value_at(faults: list[Any]) -> Any:
    """The offending value, as given (a fault deep in a union shows only its own element)."""
    return min(faults, key=lambda f: len(f["loc"]))["input"]


def _field_path(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """`loc` without pydantic's names of union branches and positions inside one field."""
    path: list[int | str] = []
    owner: type[BaseModel] | None = model
    for part in loc:
        path.append(part)
        if isinstance(part, int) and owner is not None:
            continue  # a place in a list of models
        owner = _model_at(owner, (part,)) if owner is not None else None
        if owner is None:
            break
    return tuple(path)


def _model_at(model: type[BaseModel], path: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The nested model a path of field names leads to, or None where it leads to a plain value."""
    owner = model
    for part in path:
        if isinstance(part, int):
            continue
        field = owner.model_fields.get(str(part))
        if field is None:
            return None
        kinds = (field.annotation, *get_args(field.annotation))
        inner = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
        if inner is None:
            return None
        owner = inner
    return owner
