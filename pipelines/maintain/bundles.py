"""What model bundles say of the data behind them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from ifmdm_core.bundle import BundleRecord
from ifmdm_core.errors import IfmdmError, NotFound
from pipelines.dataset.manifest import FeatureSet

_WORDS = re.compile(r"[0-9a-f]{8,}")
_SHORTEST = 16  # digits of a digest that lineage must at least give


@dataclass
class FoundBundle:
    """A bundle and the digests that its record names."""

    folder: Path
    record: BundleRecord

    @property
    def name(self) -> str:
        return f"bundle {self.record.name} ({self.folder.name})"

    @cached_property
    def lineage(self) -> set[str]:
        """Digests in the lineage: of feature sets, of a dataset's content, of encoders."""
        text = " ".join(self.record.lineage.values())
        return {word for word in _WORDS.findall(text) if len(word) >= _SHORTEST}

    @cached_property
    def encoders(self) -> set[str]:
        """Weights digests of the encoders in it, and of the one that its motion generator was trained on."""
        from pipelines.features.encoders import speech_identity

        named = {self.record.encoder, self.record.motion_encoder}
        try:
            return {*named, speech_identity(self.folder).encoder}
        except IfmdmError:  # a hub name that cannot be had from here names nothing
            return named

    def learned_from(self, digests: set[str]) -> bool:
        """Whether its lineage names one of these."""
        return bool(self.lineage & digests)

    def needs(self, features: FeatureSet) -> bool:
        """Whether it was trained on these features, or has the encoder that made them."""
        return features.digest in self.lineage or features.encoder in self.lineage | self.encoders


def find_bundles(folder: str | Path) -> list[FoundBundle]:
    """All bundles in a folder and below, by path; what is no readable bundle is passed over.

    Raises:
        NotFound: no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotFound(f"no folder of bundles at {folder}")
    found = []
    for path in sorted(root.rglob("bundle.json")):
        try:
            found.append(FoundBundle(path.parent, BundleRecord(**json.loads(path.read_bytes()))))
        except (ValidationError, ValueError, TypeError, OSError):
            continue
    return found
