"""A finished video goes to the job's output, once: afterwards that object belongs to the user."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ifmdm_core.errors import Conflict, IfmdmError, Unavailable
from jobs import entries
from jobs.entries import Fault, JobRecord, JobState, Video
from jobs.names import output_holder
from jobs.outputs import given_on
from jobs.store import PAUSE_S, JobStore
from jobs.tenants import Places, read_policy

TRIES = 6
"""Looks at the output before it is left to the sweeper."""


def publish(
    store: JobStore, places: Places, record: JobRecord, seq: int, state: JobState, local: Path | None = None
) -> JobState | None:
    """Uploads the video of the `done` entry `seq`, then writes what became of it as entry seq + 1.

    Returns the state after that entry, None where another wrote it.

    Does nothing where that entry is there already: the user may have moved the video since. What cannot be remedied
    by trying again (something else is at the output, no right to write there) is written as `failed`.

    Args:
        state: of the `done` entry.
        local: the video, where this machine still has it.

    Raises Unavailable: try again.
    """
    ref, video = record.ref, state.video
    assert video is not None
    try:
        _to_output(store, places, record, seq, video, local)
    except _Settled:
        return None
    except Unavailable:
        raise
    except IfmdmError as error:
        after = entries.not_published(state, Fault.of(error))
        return after if store.append(ref, seq + 1, "failed", after) else None
    after = entries.published(state)
    return after if store.append(ref, seq + 1, "published", after) else None


class _Settled(Exception):
    """Somebody has written what became of it."""


def _to_output(
    store: JobStore, places: Places, record: JobRecord, seq: int, video: Video, local: Path | None
) -> None:
    job, storage = record.job, store.storage
    output, key = places.at(job.output, read_policy(storage, record.tenant).outputs, "output")
    with _video(store, video, local) as path:
        pause = PAUSE_S
        for attempt in range(TRIES):
            if attempt:
                store.clock.sleep(pause * store.clock.chance.uniform(0.5, 1.5))
                pause *= 2
            there = output.digest(key)
            if there == video.sha256:
                return
            over = None
            if there is not None:
                found = output.info(key)
                if found is None:
                    continue  # taken away right now
                if job.if_exists != "overwrite":
                    raise Conflict(
                        f"output {job.output} holds something else (sha256 {there[:12] or 'unknown'})",
                        fix="move it, choose another output, or set if_exists to overwrite",
                    )
                over = found.etag
            # After `over` was read: what a later job publishes from now on is another version.
            _require_right(store, record)
            # As late as can be: whoever finds the entry must not upload any more.
            if (
                storage.info(record.ref.log(seq + 1)) is not None
                or storage.info(record.ref.final) is not None
            ):
                raise _Settled
            with contextlib.suppress(Unavailable):  # it may have happened: look
                if output.place(key, path, video.sha256, over):
                    return
    raise Unavailable(f"output {job.output} does not take the video", fix="try again", retry_after=30.0)


def _require_right(store: JobStore, record: JobRecord) -> None:
    """Raises Conflict where the right to publish at the output went to another job."""
    output, number = record.job.output, record.holder
    if store.storage.info(output_holder(output, number + 1)) is None:
        return
    if given_on(store, record.ref, output, number) is not None:
        raise Conflict(
            f"output {output} was given to a later job", fix="look at that job, or choose another output"
        )


@contextlib.contextmanager
def _video(store: JobStore, video: Video, local: Path | None) -> Iterator[Path]:
    """The video on this disk. Raises Conflict where the store has other bytes than the log says."""
    if local is not None:
        yield local
        return
    with tempfile.TemporaryDirectory(prefix="ifmdm-publish-") as folder:
        path = Path(folder, "video.mp4")
        store.storage.fetch(video.key, path)
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != video.sha256:
            raise Conflict(
                f"{video.key} has sha256 {found[:12]}, its job's log says {video.sha256[:12]}",
                fix="ifmdm jobs retry renders it again",
            )
        yield path
