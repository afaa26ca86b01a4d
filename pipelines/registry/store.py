"""Where registered bundles and their evaluations lie, by digest; nothing there is ever changed.

<store>/bundles/<digest>/bundle.json ...                         bundle.json last
<store>/evaluations/<digest>/<held-out digest>-<when>.json       `EvaluationReport`s
"""

from __future__ import annotations

import hashlib

from ifmdm_core.bundle import Bundle
from ifmdm_core.errors import Conflict
from ifmdm_core.storage import S3Config
from ifmdm_core.uri import Uri
from pipelines.evaluate.report import EvaluationReport, read_report
from pipelines.run.patient_storage import PatientStorage


class ModelStore:
    """Bundles and evaluations in a folder or bucket."""

    def __init__(self, uri: str, s3: S3Config | None = None) -> None:
        self.uri = Uri.parse(uri)
        self._storage = PatientStorage.open(uri, s3)

    def put(self, bundle: Bundle) -> str:
        """Upload a checked bundle, unless it is there; returns its URI."""
        prefix = f"bundles/{bundle.digest}"
        for name in bundle.record.sha256:
            path = bundle.folder / name
            there = self._storage.info(f"{prefix}/{name}")
            if there is None or there.size != path.stat().st_size:
                self._storage.upload(f"{prefix}/{name}", path)
        self._storage.put(f"{prefix}/bundle.json", (bundle.folder / "bundle.json").read_bytes())
        return str(self.uri.join(prefix))

    def add_evaluation(self, report: EvaluationReport, digest: str) -> None:
        """Keep what was measured of the bundle `digest`.

        Raises:
            Conflict: the report is about another bundle.
        """
        require_about(report, digest)
        data = report.model_dump_json(indent=1).encode()
        held_out = hashlib.sha256(f"{report.held_out.dataset}{report.held_out.settings}".encode()).hexdigest()
        name = f"{held_out[:16]}-{hashlib.sha256(data).hexdigest()[:8]}"
        self._storage.put(f"evaluations/{digest}/{name}.json", data)

    def evaluations(self, digest: str) -> list[EvaluationReport]:
        """All evaluations of a bundle, newest first."""
        keys = [item.key for item in self._storage.list(f"evaluations/{digest}/")]
        reports = [read_report(self._storage.get(key)) for key in keys if key.endswith(".json")]
        return sorted(reports, key=lambda report: report.created, reverse=True)


def require_about(report: EvaluationReport, digest: str) -> None:
    """Raises Conflict, with both digests, when the report is of another bundle."""
    if report.bundle_digest != digest:
        raise Conflict(
            f"the evaluation is of bundle {report.bundle_digest}, not of {digest}",
            fix="evaluate this very bundle: ifmdm evaluate BUNDLE DATASET --report FILE",
        )
