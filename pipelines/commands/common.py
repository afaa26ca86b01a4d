"""Arguments that the `ifmdm data` commands share, and how they print."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ifmdm_core.commands.s3_options import EndpointOption, ProfileOption, RoleOption, s3_config

__all__ = [
    "DatasetArgument",
    "EndpointOption",
    "GenerationOption",
    "JsonOption",
    "ProfileOption",
    "RoleOption",
    "print_json",
    "s3_config",
    "size_text",
]

DatasetArgument = Annotated[
    str, typer.Argument(metavar="DATASET", help="folder or s3://bucket/prefix", show_default=False)
]
GenerationOption = Annotated[
    str | None,
    typer.Option(
        "--generation", metavar="NAME", help="clips cut with other parameters; default: the current"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="print the result as JSON")]


def print_json(value: Any) -> None:
    """A result for machines: one JSON document on stdout, nothing else."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def size_text(count: int | float) -> str:
    """Bytes for people: `0 B`, `12.3 MB`, powers of 1000."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError
