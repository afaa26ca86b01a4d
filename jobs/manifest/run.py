"""A manifest into the store: read, checked, submitted by many threads, told row by row; stopped, it goes on later."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ifmdm_core.errors import BadInput, Cancelled, Conflict, IfmdmError, Unavailable
from jobs.accept import Accepted
from jobs.client import JobClient
from jobs.entries import Fault
from jobs.manifest.journal import Journal, JournalRow, head_of, journal_beside, row_digest
from jobs.manifest.rejects import Reject, RejectFile, rejects_beside
from jobs.manifest.row_jobs import Defaults
from jobs.manifest.rows import Row, Rows, open_rows
from jobs.many import each_of
from jobs.spec import RenderJob
from jobs.submit import Submitted, enter

PATIENCE_S = 300.0
"""Seconds for which a store that does not answer is asked again, per row."""
SHOWN = 20
"""Refused rows that are kept for showing; all are in the file."""

OnShare = Callable[[float, "Summary"], None]
"""Called with how much of the manifest has been read (0 to 1) and what came of it so far."""


@dataclass
class Summary:
    """What came of a manifest."""

    rows: int = 0
    submitted: int = 0
    """New jobs; with a dry run: jobs that could be."""
    already: int = 0
    """Jobs that were in the store."""
    skipped: int = 0
    """Rows that the journal knows as submitted."""
    rejected: int = 0
    rejects: list[Reject] = field(default_factory=list)
    """The first of them."""


@dataclass(frozen=True)
class _Outcome:
    row: Row
    digest: int
    done: Submitted | None = None
    error: IfmdmError | None = None
    fatal: bool = False
    """The store does not let us go on; no fault of the row's."""


class ManifestRun:
    """One manifest being submitted.

    Args:
        journal: where it is noted what became of the rows; by default beside the manifest.
        rejects: where refused rows are told; by default beside the manifest.
        workers: rows at a time; by default what suits the store.
        probe: look at the inputs' first bytes too.
        dry_run: check everything, write nothing.
    """

    def __init__(
        self, client: JobClient, manifest: Path, defaults: Defaults, *, journal: Path | None = None,
        rejects: Path | None = None, workers: int | None = None, probe: bool = False, dry_run: bool = False,
        patience_s: float = PATIENCE_S,
    ) -> None:  # fmt: skip
        self.client, self.manifest, self.defaults = client, manifest, defaults
        self.journal = journal or journal_beside(manifest)
        self.rejects = rejects or rejects_beside(manifest)
        self.summary = Summary()
        self._workers, self._probe, self._dry_run = workers or client.workers, probe, dry_run
        self._patience_s = patience_s
        self._leaving = False
        self._outputs: dict[int, int] = {}

    def run(self, on_share: OnShare = lambda share, summary: None) -> Summary:
        """Submits what is not in yet.

        Raises:
            NotFound, BadInput: no manifest, or one that cannot be read at all.
            Conflict: the journal is another store's.
            Forbidden, Unavailable: the store does not let us go on. Cancelled: Ctrl-C. The same again goes on.
        """
        rows = open_rows(self.manifest)
        self.client.policy()  # an unknown tenant is no fault of any row's
        head = head_of(self.client.store.storage.root, self.client.tenant, self.manifest.name)
        if self._dry_run:
            with RejectFile(None) as rejects:
                self._all(rows, None, rejects, on_share)
            return self.summary
        with Journal(self.journal, head) as journal, RejectFile(self.rejects) as rejects:
            try:
                self._all(rows, journal, rejects, on_share)
            except KeyboardInterrupt:
                done = self.summary.submitted + self.summary.already + self.summary.skipped
                raise Cancelled(
                    f"{done} rows of {str(self.manifest)!r} are submitted",
                    fix="the same command goes on from there",
                ) from None
        return self.summary

    def _all(self, rows: Rows, journal: Journal | None, rejects: RejectFile, on_share: OnShare) -> None:
        todo = self._checked(rows, journal, rejects)
        with contextlib.closing(each_of(todo, self._submit, self._workers, self._leave)) as outcomes:
            for _, outcome in outcomes:
                assert isinstance(outcome, _Outcome)  # `_submit` tells errors by its outcome
                self._note(outcome, journal, rejects)
                on_share(rows.share(), self.summary)
        on_share(1.0, self.summary)

    def _note(self, outcome: _Outcome, journal: Journal | None, rejects: RejectFile) -> None:
        if outcome.error is not None:
            if outcome.fatal:
                raise outcome.error
            self._refuse(outcome.row, outcome.error, journal, rejects)
        elif outcome.done is None:
            self.summary.submitted += 1
        else:
            self.summary.submitted += outcome.done.created
            self.summary.already += not outcome.done.created
            if journal is not None:
                row, done = outcome.row, outcome.done
                journal.add(JournalRow(row.number, row.line, done.ref.id, done.output, None), outcome.digest)

    def _leave(self) -> None:
        self._leaving = True

    def _checked(
        self, rows: Rows, journal: Journal | None, rejects: RejectFile
    ) -> Iterator[tuple[int, tuple[Row, RenderJob, int]]]:
        """Rows that are jobs, and not in yet; the others are told."""
        for row in rows:
            self.summary.rows += 1
            try:
                job = self.defaults.job(row)
                self._require_own_output(row, job)
            except BadInput as error:
                self._refuse(row, error, journal, rejects)
                continue
            digest = row_digest(job)
            if journal is not None and journal.has(row.number, digest):
                self.summary.skipped += 1
                continue
            yield row.number, (row, job, digest)

    def _require_own_output(self, row: Row, job: RenderJob) -> None:
        """Raises BadInput where an earlier row has the same output."""
        first = self._outputs.setdefault(hash(job.output), row.line)
        if first != row.line:
            error = BadInput(f"output {job.output} is that of line {first} too", fix="give each row its own")
            error.field = "output"
            raise error

    def _submit(self, task: tuple[Row, RenderJob, int]) -> _Outcome:
        """One row, in one of the threads."""
        row, job, digest = task
        clock, pause = self.client.store.clock, 1.0
        until = clock.monotonic() + self._patience_s
        while True:
            accepted: Accepted | None = None
            try:
                accepted = self.client.accept(job, probe=self._probe, upload=not self._dry_run)
                if self._dry_run:
                    return _Outcome(row, digest)
                return _Outcome(row, digest, done=enter(self.client.store, accepted))
            except Unavailable as error:
                if self._leaving or clock.monotonic() > until:
                    return _Outcome(row, digest, error=error, fatal=True)
            except IfmdmError as error:
                # What the store refuses once a job is accepted, it refuses for all; but for an output or a key in use.
                fatal = accepted is not None and not isinstance(error, Conflict | BadInput)
                return _Outcome(row, digest, error=error, fatal=fatal)
            clock.sleep(pause * clock.chance.uniform(0.5, 1.5))
            pause = min(5.0, 2 * pause)

    def _refuse(self, row: Row, error: IfmdmError, journal: Journal | None, rejects: RejectFile) -> None:
        reject = Reject.of(row, error)
        self.summary.rejected += 1
        if len(self.summary.rejects) < SHOWN:
            self.summary.rejects.append(reject)
        rejects.add(reject)
        if journal is not None:
            output = row.values.get("output")
            journal.add(
                JournalRow(
                    row.number, row.line, None, output if isinstance(output, str) else "", Fault.of(error)
                ),
                0,
            )
