"""A renderer without networks: every video is the same few bytes, there at once or when a gate opens."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.rendering.contract import Rendered, Report, Task

VIDEO = b"\0\0\0\x18ftypmp42" + b"a video of which nobody looks at a frame" * 4
SHA256 = hashlib.sha256(VIDEO).hexdigest()
FRAMES = 5


class InstantRenderer:
    """See `jobs.rendering.contract.Renderer`.

    Args:
        wait: called in every render, with what makes it report; None is done at once.
    """

    def __init__(self, wait: Callable[[Task, Callable[[], None]], None] | None = None) -> None:
        self._room = tempfile.TemporaryDirectory(prefix="ifmdm-instant-")
        self._path = Path(self._room.name, "video.mp4")
        self._path.write_bytes(VIDEO)
        self._wait = wait

    @contextmanager
    def render(self, task: Task, report: Report) -> Iterator[Rendered]:
        """The video, from the same file every time."""
        report(0, FRAMES)
        if self._wait is not None:
            self._wait(task, lambda: report(0, FRAMES))
        report(FRAMES, FRAMES)
        yield Rendered(self._path, SHA256, len(VIDEO), FRAMES, 25, 0.0, {"decoder": 0.0})
