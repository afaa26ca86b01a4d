"""What a render gives: frames that can be walked through or saved, made while one asks for them."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ifmdm_core.media.audio import Audio

Frames = NDArray[np.uint8]
Progress = Callable[[int, int], None]
"""(frames done, frames in all)."""


class Stopwatch:
    """Wall-clock seconds by stage; stages do not overlap, so their sum is the time of the whole."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started


@dataclass
class Video:
    """A rendered video. Iterating makes the frames anew each time, the same ones (same seed)."""

    num_frames: int
    size: tuple[int, int]
    """(width, height) in pixels."""
    fps: int
    audio: Audio
    make_chunks: Callable[[Stopwatch], Iterator[Frames]] = field(repr=False)
    watch: Stopwatch = field(default_factory=Stopwatch, repr=False)
    note: str = ""
    """What the user should know, such as which of several faces was taken."""
    tags: dict[str, str] = field(default_factory=dict, repr=False)
    """Container metadata that marks the video as synthetic."""
    progress: Progress | None = field(default=None, repr=False)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds spent in each stage so far; their sum is the time spent."""
        return self.watch.seconds

    def chunks(self) -> Iterator[Frames]:
        """Frames as uint8 RGB [n, H, W, 3], a few at a time."""
        done = 0
        for chunk in self.make_chunks(self.watch):
            yield chunk
            done += len(chunk)
            if self.progress is not None:
                self.progress(done, self.num_frames)

    def __iter__(self) -> Iterator[Frames]:
        """Single frames, uint8 RGB [H, W, 3]."""
        for chunk in self.chunks():
            yield from chunk

    def __len__(self) -> int:
        return self.num_frames

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an MP4 with the sound; the file appears only when it is whole.

        Frames go to the encoder from a second thread, so model and encoder work at the same time.
        """
        from ifmdm_core.media.video_writer import VideoWriter

        writer = VideoWriter(path, self.size, self.fps, self.audio, metadata=self.tags)
        with self.watch("encode"):
            writer.__enter__()
        try:
            with _Background(writer.write) as feed:
                for chunk in self.chunks():
                    with self.watch("encode"):
                        feed(chunk)
                with self.watch("encode"):
                    feed.finish()
        except BaseException as error:
            writer.__exit__(type(error), error, error.__traceback__)
            raise
        with self.watch("mux"):
            writer.__exit__(None, None, None)


class _Background:
    """Calls a function with one item after the other in a thread; at most two items wait."""

    def __init__(self, function: Callable[[Frames], None]) -> None:
        self._function = function
        self._waiting: queue.Queue[Frames | None] = queue.Queue(maxsize=2)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> _Background:
        self._thread.start()
        return self

    def __call__(self, item: Frames) -> None:
        if self._error is not None:
            raise self._error
        self._waiting.put(item)

    def finish(self) -> None:
        """Waits until everything is done; raises what the function raised."""
        self._waiting.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            if self._error is None:
                self._error = RuntimeError("abandoned")
            self._waiting.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._error is None:
                try:
                    self._function(item)
                except BaseException as error:
                    self._error = error
