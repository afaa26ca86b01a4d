"""Giving the champion's alias to a version that passes the gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ifmdm_core.errors import Conflict, NotFound
from pipelines.evaluate.report import EvaluationReport
from pipelines.registry.gates import GateConfig, GateResult, check
from pipelines.registry.stale import Stale, find_stale
from pipelines.registry.versions import Registry, Version


@dataclass(frozen=True)
class Promotion:
    """What was found, and that the alias moved."""

    version: Version
    alias: str
    before: Version | None
    """Who had the alias."""
    gates: list[GateResult]
    stale: Stale
    """Whose motion generators do not go with the new champion's encoder."""


def promote(
    registry: Registry,
    version: Version,
    alias: str = "champion",
    gates: GateConfig | None = None,
    reports: Sequence[EvaluationReport] = (),
) -> Promotion:
    """Move `alias` to `version` if every gate lets it through.

    Args:
        reports: evaluations besides those in the store, of this version or of the present holder.

    Raises:
        NotFound: it was never evaluated. Conflict: a gate failed (named, with both figures), or the two were not
            measured on the same held-out clips.
    """
    config = gates or GateConfig()
    before = registry.champion(version.name, alias)
    if before is not None and before.version == version.version:
        before = None  # promoted again: only what holds for everybody
    mine = _evaluations(registry, version, reports)
    if before is None:
        results = check(config, mine[0], None)
    else:
        challenger, champion = _comparable(version, mine, before, _evaluations(registry, before, reports))
        results = check(config, challenger, champion)
    failed = [result for result in results if not result.passed]
    if failed:
        raise Conflict(
            f"{version.label} is not promoted to {alias}: {'; '.join(map(str, failed))}",
            fix="train on, or change the gates openly (--gates FILE)",
        )
    registry.set_alias(version, alias)
    found = find_stale(registry, version.encoder)
    return Promotion(registry.get(version.name, version.version), alias, before, results, found)


def _evaluations(
    registry: Registry, version: Version, given: Sequence[EvaluationReport]
) -> list[EvaluationReport]:
    """Of one version, newest first."""
    mine = [report for report in given if report.bundle_digest == version.sha256]
    found = [*mine, *registry.store_of(version).evaluations(version.sha256)]
    if not found:
        raise NotFound(
            f"{version.label} has no evaluation",
            fix="ifmdm evaluate BUNDLE DATASET --report FILE, then --evaluation FILE",
        )
    return sorted(found, key=lambda report: report.created, reverse=True)


def _comparable(
    version: Version, mine: list[EvaluationReport], before: Version, theirs: list[EvaluationReport]
) -> tuple[EvaluationReport, EvaluationReport]:
    """The newest pair measured on the same clips with the same settings."""
    for report in mine:
        for other in theirs:
            same = (report.held_out.dataset, report.held_out.settings)
            if same == (other.held_out.dataset, other.held_out.settings):
                return report, other
    ours, others = mine[0].held_out, theirs[0].held_out
    raise Conflict(
        f"{version.label} was measured on clips {ours.dataset[:16]} with settings {ours.settings[:16]}, "
        f"{before.label} on {others.dataset[:16]} with {others.settings[:16]}",
        fix="evaluate both bundles on the same held-out clips with the same options",
    )
