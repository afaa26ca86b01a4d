"""What became of many jobs, as a table: one line a job, or a row of a manifest, with state, output and error."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import IO, Any

from ifmdm_core.errors import BadInput, Conflict, Forbidden, NotFound, Unsupported
from jobs.entries import Fault, JobState
from jobs.listing import READERS, Job
from jobs.manifest.journal import JournalRow, head_of, read_head, read_journal
from jobs.manifest.rejects import harmless
from jobs.names import JobRef, check_id
from jobs.store import JobStore

FORMATS = (".csv", ".jsonl", ".parquet")
_BATCH = 4096


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    row: int | None
    """Of the manifest, from 1; None without one."""
    line: int | None
    id: str
    """Empty for a row that was refused."""
    state: str
    """Of the job; `rejected` for a row that was refused, `forgotten` for a job that is in the store no more."""
    output: str
    sha256: str = ""
    """Of the video, once there is one."""
    frames: int | None = None
    attempts: int | None = None
    """That failed."""
    busy_s: float | None = None
    """Working seconds, all stages together."""
    error: str = ""
    """Class of the error."""
    field: str = ""
    """That it is about."""
    reason: str = ""
    fix: str = ""


def of_jobs(jobs: Iterable[Job]) -> Iterator[Result]:
    """Lines of jobs."""
    for job in jobs:
        state = job.view.state
        yield _of_state(Result(None, None, job.record.id, state.state, job.record.job.output), state)


def of_journal(store: JobStore, tenant: str, journal: Path) -> Iterator[Result]:
    """A line for each row of the manifest whose journal that is, in its order.

    Raises NotFound, BadInput for no journal, Conflict where it is about another store or tenant; Unavailable.
    """
    read_head(journal).require_like(head_of(store.storage.root, tenant), journal)
    with ThreadPoolExecutor(READERS, thread_name_prefix="read") as pool:
        for batch in _batches(read_journal(journal), 4 * READERS):
            yield from pool.map(lambda row: _of_row(store, tenant, row), batch)


def write(results: Iterable[Result], path: Path | None) -> Counter[str]:
    """Writes the table, .csv, .jsonl or .parquet by the name's end; None is CSV on standard output. Lines by state.

    Raises BadInput for another ending.
    """
    if path is not None and path.suffix not in FORMATS:
        raise BadInput(
            f"{str(path)!r} ends in {path.suffix or 'nothing'}",
            fix=f"let it end in one of {', '.join(FORMATS)}",
        )
    counts: Counter[str] = Counter()

    def counted() -> Iterator[Result]:
        for result in results:
            counts[result.state] += 1
            yield result

    if path is None:
        _csv(counted(), sys.stdout)
    elif path.suffix == ".parquet":
        _parquet(counted(), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            (_csv if path.suffix == ".csv" else _jsonl)(counted(), file)
    return counts


def _of_row(store: JobStore, tenant: str, row: JournalRow) -> Result:
    if row.id is None:
        return _with_fault(Result(row.row, row.line, "", "rejected", row.output), row.error)
    ref = JobRef(tenant, check_id(row.id))
    try:
        state = store.view(ref).state
    except NotFound:
        return Result(row.row, row.line, row.id, "forgotten", row.output)
    except (Conflict, Unsupported, Forbidden) as error:
        return _with_fault(Result(row.row, row.line, row.id, "unknown", row.output), Fault.of(error))
    return _of_state(Result(row.row, row.line, row.id, state.state, row.output), state)


def _of_state(result: Result, state: JobState) -> Result:
    video = state.video
    result = replace(
        result, attempts=state.attempts, busy_s=round(sum(state.busy_s.values()), 3),
        sha256=video.sha256 if video is not None else "", frames=video.frames if video is not None else None,
    )  # fmt: skip
    return _with_fault(result, state.fault if state.state != "published" else None)


def _with_fault(result: Result, fault: Fault | None) -> Result:
    if fault is None:
        return result
    return replace(result, error=fault.kind, field=fault.field, reason=fault.what, fix=fault.fix)


def _csv(results: Iterable[Result], file: IO[str]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([column.name for column in fields(Result)])
    for result in results:
        writer.writerow([harmless("" if cell is None else str(cell)) for cell in asdict(result).values()])


def _jsonl(results: Iterable[Result], file: IO[str]) -> None:
    for result in results:
        file.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")


def _parquet(results: Iterable[Result], path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    types: dict[str, Any] = {name: pa.int64() for name in ("row", "line", "frames", "attempts")}
    types["busy_s"] = pa.float64()
    schema = pa.schema([(column.name, types.get(column.name, pa.string())) for column in fields(Result)])
    with parquet.ParquetWriter(path, schema) as writer:
        for batch in _batches(results, _BATCH):
            writer.write_table(pa.Table.from_pylist([asdict(result) for result in batch], schema))


def _batches(things: Iterable[Any], size: int) -> Iterator[list[Any]]:
    remaining = iter(things)
    while batch := list(itertools.islice(remaining, size)):
        yield batch
