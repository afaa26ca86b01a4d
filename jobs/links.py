"""Where a job's video can be fetched from, by anybody, for a while."""

from __future__ import annotations

from ifmdm_core.errors import Conflict, NotFound
from jobs.listing import Job
from jobs.store import JobStore
from jobs.tenants import Places, read_policy


def video_link(store: JobStore, places: Places, job: Job, seconds: int) -> str:
    """A URL to the video: to the store's own copy, or, when that has been cleaned up, to what is at the output.

    Raises Conflict for a job that has none, NotFound where both are gone, BadInput for more than seven days,
    Forbidden, Unavailable.
    """
    video = job.view.state.video
    if video is None:
        raise Conflict(f"job {job.ref} is {job.view.state.state} and has no video", fix="wait until it has")
    if not job.view.final and store.storage.info(video.key) is not None:
        return store.storage.presigned(video.key, seconds)
    output = job.record.job.output
    storage, key = places.at(output, read_policy(store.storage, job.ref.tenant).outputs, "output")
    if storage.info(key) is None:
        raise NotFound(
            f"the video of job {job.ref} is at {output} no more", fix="it belongs to whoever took it"
        )
    return storage.presigned(key, seconds)
