"""Decoding in a child process: what crashes, hangs or leaks there costs one video, not the worker.

The child is a plain interpreter of its own (no fork of a process with threads, nothing of the caller's main module,
no torch). Frames come through a ring of slots in shared memory that has no name and so cannot be left behind;
only slot numbers, sound and errors pass through the socket. The child decodes ahead while the caller works.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ifmdm_core.errors import BadInput, IfmdmError
from ifmdm_core.media.video import VideoInfo, probe_video, read_frames, read_video_audio

LONGEST_SIDE = 1920  # pixels; larger frames are scaled down
RING = 96 << 20  # bytes of all slots together
MAX_SLOTS = 64
RATE = 16_000  # Hz of sound

Frame = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]


class DecoderCrash(BadInput):
    """The child that decoded a file died or hung. Once may be bad luck (a kill, no memory); twice is the file."""


class DecoderProcess:
    """Decodes videos in a child process; a context manager, for one thread.

    Args:
        recycle: videos after which the child is replaced: decoders leak.
        patience: seconds without anything from the child after which it hangs.
        memory: bytes of data that the child may hold.
    """

    def __init__(self, recycle: int = 50, patience: float = 120.0, memory: int = 8 << 30) -> None:
        self.recycle, self.patience, self.memory = recycle, patience, memory
        self._child: subprocess.Popen[bytes] | None = None
        self._videos = 0
        self._last: str | None = None

    def __enter__(self) -> DecoderProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the child; None while there is none."""
        return self._child.pid if self._child else None

    def probe(self, path: str | os.PathLike[str]) -> VideoInfo:
        """`ifmdm_core.media.video.probe_video` in the child; raises what it raises, or DecoderCrash."""
        self._ask("probe", path)
        info: VideoInfo = self._answer(path)
        return info

    def frames(
        self, path: str | os.PathLike[str], fps: float, start: float = 0.0, end: float | None = None
    ) -> Iterator[Frame]:
        """`ifmdm_core.media.video.read_frames` in the child: upright RGB frames [H, W, 3], scaled so that neither
        side exceeds 1920 pixels (see `frame_scale`).

        Raises what `read_frames` raises, or DecoderCrash. One that is not read to its end costs the child.
        """
        self._ask("frames", path, fps, start, end)
        complete = False
        try:
            while True:
                message = self._answer(path)
                if message is None:
                    complete = True
                    return
                offset, height, width = message
                size = 3 * height * width
                view = np.frombuffer(self._memory, np.uint8, size, offset).reshape(height, width, 3)
                frame = view.copy()
                del view
                self._send(path, None)  # the slot is free again
                yield frame
        except IfmdmError:
            complete = True
            raise
        finally:
            if not complete:
                self.close()

    def sound(self, path: str | os.PathLike[str], start: float, end: float) -> Samples | None:
        """16 kHz mono float32 [n] between two times in seconds from the first frame; shorter where the sound ends.

        None for a video without sound. Raises what `read_video_audio` raises, or DecoderCrash.
        """
        self._ask("sound", path, start, end)
        if not self._answer(path):
            return None
        try:
            return np.frombuffer(self._pipe.recv_bytes(), np.float32)
        except (EOFError, OSError) as error:
            raise self._crash(path, "died") from error

    def close(self) -> None:
        """End the child; the next request starts another one."""
        child, self._child = self._child, None
        if child is None:
            return
        self._pipe.close()
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        child.wait()
        self._memory.close()

    def _ask(self, what: str, path: str | os.PathLike[str], *arguments: Any) -> None:
        name = os.fspath(path)
        if name != self._last:
            self._videos += 1
            self._last = name
            if self._videos > self.recycle:
                self.close()
        if self._child is None or self._child.poll() is not None:
            self.start()
            self._videos = 1
        self._send(path, (what, name, *arguments))

    def _send(self, path: str | os.PathLike[str], message: Any) -> None:
        try:
            self._pipe.send(message)
        except OSError as error:
            raise self._crash(path, "died") from error

    def _answer(self, path: str | os.PathLike[str]) -> Any:
        """The next message; errors of the child are raised here."""
        try:
            if not self._pipe.poll(self.patience):
                raise self._crash(path, f"made no progress for {self.patience:.0f} s")
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._crash(path, "died") from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _crash(self, path: str | os.PathLike[str], how: str) -> DecoderCrash:
        if self._child is not None and how == "died":
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._child.wait(5)
                how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        self.close()
        return DecoderCrash(
            f"{os.fspath(path)}: the decoder crashed on it ({how})", fix="export the video again, as H.264"
        )

    def start(self) -> None:
        """Start a new child now; else the first question does."""
        self.close()
        ours, theirs = socket.socketpair()
        shared = _anonymous_memory(RING)
        try:
            self._memory = mmap.mmap(shared, RING)
            code = "from ifmdm_core.media.decoder_process import serve; serve(%d, %d, %d)"
            self._child = subprocess.Popen(
                [sys.executable, "-c", code % (theirs.fileno(), shared, self.memory)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), shared),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,  # Ctrl-C is for the caller, which then ends the child
            )
        finally:
            theirs.close()
            os.close(shared)
        self._pipe: Connection[Any, Any] = Connection(ours.detach())


def frame_scale(info: VideoInfo) -> float:
    """Side of the frames that `DecoderProcess.frames` gives over the video's own: 1, or less for large ones."""
    return min(1.0, LONGEST_SIDE / max(info.width, info.height))


def serve(pipe: int, shared: int, memory: int) -> None:
    """The child: answers requests from the socket `pipe` until it closes."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # no such limit here, or already lower
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    cv2.setNumThreads(1)
    connection: Connection[Any, Any] = Connection(pipe)
    ring = mmap.mmap(shared, RING)
    source = _Source()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            what, path, *arguments = connection.recv()
            try:
                source.open(path)
                if what == "probe":
                    connection.send(source.info)
                elif what == "frames":
                    _send_frames(connection, ring, source, *arguments)
                else:
                    source.send_sound(connection, *arguments)
            except (EOFError, BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:
                connection.send(_portable(error, path))


class _Source:
    """The video of the last request; its probe and its sound are kept while requests stay with it."""

    def __init__(self) -> None:
        self._key: tuple[str, int, int] | None = None

    def open(self, path: str) -> None:
        stat = Path(path).stat() if os.path.exists(path) else None
        key = (path, stat.st_size, stat.st_mtime_ns) if stat else None
        if key is None or key != self._key:
            self._key = None
            self.info = probe_video(path)
            self.path, self._key = path, key
            self._sound: Samples | None = None
            self._heard = False

    def send_sound(self, connection: Connection[Any, Any], start: float, end: float) -> None:
        if not self._heard:
            audio = read_video_audio(self.path, info=self.info, quiet=True)
            self._audio = audio  # its samples lie in a file that goes with it
            self._sound = audio.samples if audio else None
            self._heard = True
        connection.send(self._sound is not None)
        if self._sound is not None:
            part = self._sound[round(start * RATE) : round(end * RATE)]
            connection.send_bytes(np.ascontiguousarray(part, np.float32).tobytes())


def _send_frames(
    connection: Connection[Any, Any],
    ring: mmap.mmap,
    source: _Source,
    fps: float,
    start: float,
    end: float | None,
) -> None:
    slots = number = pending = 0
    size: tuple[int, int] = (0, 0)
    try:
        for image in read_frames(source.path, fps, start, end, info=source.info):
            if not slots:
                scale = frame_scale(source.info)
                size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
                slots = max(1, min(MAX_SLOTS, RING // (3 * size[0] * size[1])))
            if image.shape[1::-1] != size:  # also a stream that changes its size keeps the first one
                image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
            while pending >= slots or (pending and connection.poll()):
                connection.recv()
                pending -= 1
            offset = number % slots * image.nbytes
            np.frombuffer(ring, np.uint8, image.nbytes, offset)[:] = image.ravel()
            connection.send((offset, image.shape[0], image.shape[1]))
            number, pending = number + 1, pending + 1
    finally:
        for _ in range(pending):  # what is said next must not be taken for these
            connection.recv()
    connection.send(None)


def _portable(error: Exception, path: str) -> Exception:
    """The error as it can cross to the caller."""
    if isinstance(error, (IfmdmError, OSError)):
        return error
    return BadInput(
        f"{path}: cannot be decoded ({type(error).__name__}: {error})", fix="export it again, as H.264"
    )


def _anonymous_memory(size: int) -> int:
    """A file descriptor of `size` bytes that both processes map and that vanishes with them."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("ifmdm-frames")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor
