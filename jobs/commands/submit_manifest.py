"""A manifest: submitted with a progress bar, told, and waited for."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.storage import S3Config, open_storage
from ifmdm_core.uri import Uri
from jobs.client import JobClient
from jobs.commands.options import print_json
from jobs.manifest.journal import journal_beside, read_journal
from jobs.manifest.rejects import rejects_beside
from jobs.manifest.row_jobs import Defaults
from jobs.manifest.run import ManifestRun, Summary
from jobs.manifest.template import Template
from jobs.waiting import wait_all


def submit_manifest(
    client: JobClient, manifest: str, fields: dict[str, Any], template: str | None, journal: Path | None,
    workers: int | None, *, probe: bool, dry_run: bool, wait: bool, timeout_s: float | None, as_json: bool,
) -> int:  # fmt: skip
    """Hands in what is not in yet and says what came of it; exit code 2 where rows were refused or jobs failed."""
    defaults = Defaults(fields, Template(template) if template is not None else None)
    with _local(manifest, client.s3) as (path, beside):
        run = ManifestRun(
            client, path, defaults, journal=journal or journal_beside(beside), rejects=rejects_beside(beside),
            workers=workers, probe=probe, dry_run=dry_run,
        )  # fmt: skip
        with _bar(f"submitting {beside.name}", as_json) as show:
            summary = run.run(lambda share, summary: show(share, _counted(summary)))
    result = _result(manifest, run, summary, dry_run)
    if not as_json:
        print(_told(run, summary, dry_run), file=sys.stderr if wait else sys.stdout)
        for reject in summary.rejects:
            print(f"ifmdm: {reject}", file=sys.stderr)
        if summary.rejected > len(summary.rejects):
            print(f"ifmdm: and {summary.rejected - len(summary.rejects)} more", file=sys.stderr)
    good = not summary.rejected
    if wait and not dry_run:
        states = _waited(client, run.journal, timeout_s, as_json)
        good = good and set(states) <= {"published"}
        result["states"] = dict(states)
        if not as_json:
            print(", ".join(f"{count} {state}" for state, count in states.most_common()) or "no jobs")
    if as_json:
        print_json(result)
    return 0 if good else BadInput.exit_code


def _waited(client: JobClient, journal: Path, timeout_s: float | None, quiet: bool) -> Counter[str]:
    ids = dict.fromkeys(row.id for row in read_journal(journal) if row.id is not None)
    states: Counter[str] = Counter()
    with _bar("rendering", quiet) as show:
        for view in wait_all(client, ids, timeout_s):
            states[view.state.state] += 1
            show(states.total() / len(ids), f"{states.total()} of {len(ids)}")
    return states


@contextlib.contextmanager
def _local(manifest: str, s3: S3Config | None) -> Iterator[tuple[Path, Path]]:
    """The manifest as a local file, and the path that its journal and rejects go beside (here, for a bucket's)."""
    uri = Uri.parse(manifest)
    if uri.scheme == "file":
        yield Path(uri.path), Path(uri.path)
        return
    if not uri.name:
        raise BadInput(f"--manifest is {manifest!r}, which names no file", fix="name one")
    with tempfile.TemporaryDirectory(prefix="ifmdm-manifest-") as folder:
        path = Path(folder, uri.name)
        try:
            open_storage(Uri("s3", uri.bucket, uri.path.rpartition("/")[0]), s3).fetch(uri.name, path)
        except NotFound:
            raise NotFound(f"there is no manifest {manifest!r}", fix="check the address") from None
        yield path, Path(uri.name)


def _result(manifest: str, run: ManifestRun, summary: Summary, dry_run: bool) -> dict[str, Any]:
    values = {"manifest": manifest, "dry_run": dry_run, **asdict(summary)}
    values["journal"] = None if dry_run else str(run.journal)
    values["report"] = str(run.rejects) if summary.rejected and not dry_run else None
    return values


def _told(run: ManifestRun, summary: Summary, dry_run: bool) -> str:
    parts = [
        f"{summary.rows} rows",
        f"{summary.submitted} {'could be submitted' if dry_run else 'submitted'}",
    ]
    if summary.already:
        parts.append(f"{summary.already} were in the store already")
    if summary.skipped:
        parts.append(f"{summary.skipped} submitted before")
    if summary.rejected:
        where = "" if dry_run else f" (see {run.rejects})"
        parts.append(f"{summary.rejected} refused{where}")
    return ", ".join(parts)


def _counted(summary: Summary) -> str:
    refused = f", {summary.rejected} refused" if summary.rejected else ""
    return f"{summary.submitted + summary.already} jobs{refused}"


@contextlib.contextmanager
def _bar(title: str, quiet: bool) -> Iterator[Callable[[float, str], None]]:
    """Yields what draws the share that is done, and a text, on a terminal's stderr; nothing without a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda share, told: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[told]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0, told="")

        def show(share: float, told: str) -> None:
            bar.update(task, completed=share, told=told)

        yield show
