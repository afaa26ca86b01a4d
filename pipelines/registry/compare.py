"""What differs between two bundles or versions: networks, lineage, figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.bundle import Bundle


class Difference(BaseModel):
    """One entry that the two do not share; an absent side is ""."""

    model_config = ConfigDict(frozen=True)

    group: str = Field(description="files, record, autoencoder, motion, lineage or figures")
    name: str
    first: str
    second: str


def contents(bundle: Bundle, figures: Mapping[str, str] | None = None) -> dict[str, dict[str, str]]:
    """All that is said of a bundle, by group and name."""
    from ifmdm_core.weights import read_weights
    from pipelines.tracking.tracked_run import flatten

    record = bundle.record.model_dump(exclude={"sha256", "lineage"})
    networks: dict[str, Any] = {
        part: read_weights(bundle.folder / f"{part}.safetensors")[1] for part in ("autoencoder", "motion")
    }
    return {
        "record": {"digest": bundle.digest, **flatten(record)},
        "files": dict(bundle.record.sha256),
        **{part: flatten(config) for part, config in networks.items()},
        "lineage": dict(bundle.record.lineage),
        "figures": dict(figures or {}),
    }


def differences(
    first: Mapping[str, Mapping[str, str]], second: Mapping[str, Mapping[str, str]]
) -> list[Difference]:
    """Of two `contents`, in their order."""
    found = []
    for group in first:
        for name in dict.fromkeys([*first[group], *second[group]]):
            one, two = first[group].get(name, ""), second[group].get(name, "")
            if one != two:
                found.append(Difference(group=group, name=name, first=one, second=two))
    return found
