"""One evaluation in its folder: what is left to do, what was done, and the report of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ifmdm_core.errors import BadInput, IfmdmError
from ifmdm_core.metrics.evaluate import MEASURED, Effort
from ifmdm_core.metrics.tables import Table
from pipelines.dataset.ids import digest
from pipelines.evaluate.examiner import ClipJob, ClipResult
from pipelines.evaluate.finished import Finished, slug
from pipelines.evaluate.html import write_html
from pipelines.evaluate.paper_tables import NEEDS, Scored, paper_table, row_figures
from pipelines.evaluate.plan import Plan
from pipelines.evaluate.report import EvaluationReport, HeldOut
from pipelines.evaluate.rows import OURS
from pipelines.evaluate.work import Task


@dataclass
class Evaluation:
    """Args:
    name, digest: of the bundle.
    effort: of the measuring tables; None: they are not wanted.
    settings: what `held_out.settings` is the digest of.
    lips_by: who looked at lips, for the tables' notes.
    export: folder for what other systems need.
    """

    name: str
    digest: str
    plan: Plan
    effort: Effort | None
    seconds: float
    held_out: HeldOut
    settings: Mapping[str, Any]
    finished: Finished
    lips_by: str
    export: Path | None = None
    recalled: int = 0
    """Rows and measuring steps that were done before."""
    failed: dict[str, str] = field(default_factory=dict)
    _scored: Scored = field(default_factory=Scored)
    _tables: dict[str, list[Table]] = field(default_factory=dict)

    def todo(self) -> list[Task]:
        """Tasks that no earlier run has done; what it has is taken over."""
        tasks: list[Task] = []
        for job in self.plan.jobs():
            left = tuple(row for row in job.rows if not self._recall(job, row))
            if left or job.export:
                name = f"{job.clip.name}, table {job.rows[0].table}"
                part = job.model_copy(update={"rows": left})
                tasks.append(Task(name, "score", (part,), self.seconds * (2 + len(left))))
        for step in MEASURED if self.effort else ():
            stored = self.finished.tables(step, self.held_out.dataset, self._effort_key)
            if stored is not None:
                self._tables[step] = stored
                self.recalled += 1
            else:
                payload = (step, list(self.plan.clips), self.effort)
                tasks.append(Task(step, "measure", payload, self.seconds * len(self.plan.clips) * 12))
        return tasks

    def take(self, task: Task, value: Any, error: IfmdmError | None) -> None:
        """Keep what a task gave."""
        if task.method == "measure":
            if error is not None:
                self.failed[task.name] = str(error)
                return
            self._tables[task.name] = value
            self.finished.keep_tables(task.name, self.held_out.dataset, self._effort_key, value)
            return
        job: ClipJob = task.payload[0]
        if error is not None:
            self.failed[job.clip.name] = str(error)
            return
        result: ClipResult = value
        self.finished.keep(job, result)
        for row in job.rows:
            found = result.rows[row.name]
            if found.error:
                self.failed[f"{row.name}, {job.clip.name}"] = found.error
            else:
                self._scored.add(row, job.clip.name, found, result.features.get(row.name))
        if self.export is not None:
            _write_export(self.export, job.clip.name, result.files)

    def report(self, seconds: float) -> EvaluationReport:
        """Figures and tables of everything that was done, written as report.json and report.html too.

        Raises:
            BadInput: not one clip could be used.
        """
        if not self._scored.results and not self._tables:
            why = next(iter(self.failed.values()), "nothing was wanted")
            raise BadInput(
                f"none of the {len(self.plan.clips)} clips could be used: {why}", fix="give other clips"
            )
        rows = [row_figures(self._scored, row) for table in self.plan.tables for row in self.plan.rows(table)]
        note = f"Lips by {self.lips_by}. 95 % bootstrap over clips."
        shown = []
        for number in self.plan.tables:
            clips = {row.name: self._scored.count(row) for row in self.plan.rows(number)}
            shown.append(paper_table(number, rows, clips, note))
        tables = [table for step in MEASURED for table in self._tables.get(step, [])]
        ours = next((row.figures for row in rows if (row.table, row.row) == (1, OURS)), {})
        figures = {
            column: figure for column, figure in ours.items() if column != "fps"
        }  # the machine's, not ours
        figures |= {column: figure for table in tables for column, figure in table.figures.items()}
        report = EvaluationReport(
            bundle=self.name, bundle_digest=self.digest, created=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=seconds, held_out=self.held_out, settings=dict(self.settings), figures=figures,
            unavailable={column: why for column, why in NEEDS.items() if column not in figures},
            rows=rows, tables=[*shown, *tables], failed=self.failed,
        )  # fmt: skip
        folder = self.finished.folder
        report.save(folder / "report.json")
        write_html(folder / "report.html", report, self._videos())
        return report

    def _videos(self) -> list[tuple[str, str, Path]]:
        """(clip, row, file) of the videos that there are, clip after clip."""
        found = [
            (clip.name, row.name, self.finished.video(row.name, clip.name))
            for clip in self.plan.shown()
            for row in (self.plan.rows(1) if self.plan.tables else [])
        ]
        return [video for video in found if video[2].is_file()]

    def _recall(self, job: ClipJob, row: Any) -> bool:
        found = self.finished.get(job, row)
        if found is not None:
            self._scored.add(row, job.clip.name, *found)
            self.recalled += 1
        return found is not None

    @property
    def _effort_key(self) -> str:
        assert self.effort is not None
        return digest(dataclasses.asdict(self.effort), length=16)


def _write_export(folder: Path, clip: str, files: Mapping[str, bytes]) -> None:
    """portraits/NAME.png, sounds/NAME.wav, truth/NAME.mp4 (or the video's own ending)."""
    places = {".png": "portraits", ".wav": "sounds"}
    for ending, data in files.items():
        path = folder / places.get(ending, "truth") / f"{slug(clip)}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
