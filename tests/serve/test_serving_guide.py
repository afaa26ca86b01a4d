"""docs/serving.md: its tables say what the code says. Its examples are run by test_serving_examples.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from serve.config import (
    DecoderConfig,
    GatewayConfig,
    Limits,
    Scaling,
    ServeConfig,
    SigningConfig,
    StageConfig,
)
from serve.metric_table import METRICS

GUIDE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()


def settings() -> Iterator[tuple[str, type[BaseModel], str]]:
    """(prefix, model, fields not to list) of every part of the configuration, as the guide lists them."""
    yield "", ServeConfig, "speech motion decoder gateway signing"
    yield "STAGE.", StageConfig, "scaling"
    yield "STAGE.scaling.", Scaling, ""
    yield "decoder.", DecoderConfig, " ".join(StageConfig.model_fields)
    yield "gateway.", GatewayConfig, "limits"
    yield "gateway.limits.", Limits, ""
    yield "signing.", SigningConfig, ""


def rows() -> list[str]:
    """The table of settings, a line each."""
    found = []
    for prefix, model, others in settings():
        for name, field in model.model_fields.items():
            if name not in others.split():
                default = "must be given" if field.is_required() else f"`{field.default}`"
                found.append(f"| `{prefix}{name}` | {default} | {field.description} |")
    return found


def test_the_table_of_settings_is_the_configuration() -> None:
    part = GUIDE.partition("## Configuration")[2].partition("\n## ")[0]
    assert [line for line in part.splitlines() if line.startswith("| `")] == rows()


def test_the_table_of_metrics_is_the_code() -> None:
    part = GUIDE.partition("## Metrics")[2].partition("\n## ")[0]
    wanted = [f"| `{m.name}` | {m.kind} | {', '.join(m.labels)} | {m.help} |" for m in METRICS]
    assert [line for line in part.splitlines() if line.startswith("| `")] == wanted
