"""What a bundle must hold against the champion before it takes its place."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from pipelines.evaluate.report import EvaluationReport, Figure


class Gate(BaseModel):
    """Of one figure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    no_worse: bool = Field(True, description="refuse what is beyond the bad end of the champion's interval")
    least: float | None = Field(None, description="refuse less than this, champion or not")
    most: float | None = Field(None, description="refuse more than this, champion or not")


class GateConfig(BaseModel):
    """The gates of a promotion (configs/gates.yaml)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gates: dict[str, Gate] = Field(
        default_factory=lambda: {
            name: Gate() for name in ("S", "lip_r", "reconstruction_gain_db", "seam_ratio")
        },
        description="by figure of an evaluation",
    )


@dataclass(frozen=True)
class GateResult:
    """One gate, passed or not."""

    gate: str
    passed: bool
    challenger: str
    champion: str
    reason: str = ""

    def __str__(self) -> str:
        mark = "passed" if self.passed else "FAILED"
        against = f", champion {self.champion}" if self.champion else ""
        return f"{self.gate}: {mark}, {self.challenger}{against}{f' ({self.reason})' if self.reason else ''}"


def check(
    config: GateConfig, challenger: EvaluationReport, champion: EvaluationReport | None
) -> list[GateResult]:
    """Every gate in order; figures must be there, also for the first champion.

    Raises:
        Conflict: the two were not measured on the same held-out clips with the same settings.
    """
    if champion is not None:
        challenger.held_out.require_same(champion.held_out)
    return [_check(name, gate, challenger, champion) for name, gate in config.gates.items()]


def _check(
    name: str, gate: Gate, challenger: EvaluationReport, champion: EvaluationReport | None
) -> GateResult:
    mine = challenger.figures.get(name)
    theirs = champion.figures.get(name) if champion is not None else None
    fault = _missing(name, challenger) if mine is None else _fault(gate, mine, theirs)
    return GateResult(name, not fault, str(mine or "none"), str(theirs or ""), fault)


def _missing(name: str, report: EvaluationReport) -> str:
    return f"not measured: {report.unavailable.get(name, 'the evaluation has no such figure')}"


def _fault(gate: Gate, mine: Figure, theirs: Figure | None) -> str:
    if gate.least is not None and mine.value < gate.least:
        return f"below {gate.least:g}"
    if gate.most is not None and mine.value > gate.most:
        return f"above {gate.most:g}"
    if gate.no_worse and theirs is not None and mine.worse_than(theirs):
        return f"worse than the champion beyond its interval, better is {mine.better}"
    return ""
