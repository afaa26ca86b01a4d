"""Strangers' pictures and recordings are decoded in child processes, which may die of them.

A child has limits of memory, CPU time and file size, none of the secrets in this process's environment, and answers in
JSON and plain arrays of numbers, so that nothing it says is executed here. A crash, a bomb or a hang is a BadInput.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ifmdm_core import errors
from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput, IfmdmError
from ifmdm_core.media.audio import Audio, NativeAudio
from ifmdm_core.media.face import Square
from ifmdm_core.portrait import Portrait

CHILDREN = 2
RECYCLE = 200
"""Files after which a child is replaced: decoders leak."""
MEMORY = 3 << 30
"""Bytes of data a child may hold; the largest picture that is taken needs under a third."""
CPU_S = 60
"""Seconds of CPU that one file may take."""
PATIENCE_S = 90.0
"""Seconds that a child may do nothing. Not that a file may take: a busy machine is no fault of the file's."""
NOTHING = 0.01
"""Share of a CPU below which a child does nothing."""
_SECRET = re.compile(r"(?i)aws_|token|secret|password|credential|_key$")


class Intake:
    """Opens portraits and recordings for event loops. Close it in the end.

    Args:
        memory, cpu_s: limits of a child.
    """

    def __init__(self, memory: int = MEMORY, cpu_s: int = CPU_S) -> None:
        self._limits = memory, cpu_s
        self._threads = ThreadPoolExecutor(CHILDREN, "intake")
        self._children: list[Child] = []
        self._idle: list[Child] = []
        self._lock = threading.Lock()

    async def portrait(self, path: Path, controls: RenderControls, size: int, name: str) -> Portrait:
        """`portrait.open_portrait` for a model of `size` pixels; without paste back, `whole` is only the crop.

        Raises BadInput, calling the picture `name`.
        """
        with tempfile.TemporaryDirectory(prefix="ifmdm-portrait-") as folder:
            answer = await self._ask(
                "portrait",
                {"controls": controls.model_dump(mode="json"), "size": size},
                path,
                name,
                Path(folder),
            )
            crop = _array(Path(folder, "crop.npy"))
            whole = crop if answer["output"] is not None else _array(Path(folder, "whole.npy"))
        return Portrait(whole, Square(*answer["square"]), crop, answer["output"], answer["note"])

    async def audio(self, path: Path, longest: float, name: str) -> Audio:
        """`media.audio.read_audio` of at most `longest` seconds. Raises BadInput, calling the recording `name`."""
        folder = tempfile.TemporaryDirectory(prefix="ifmdm-audio-", ignore_cleanup_errors=True)
        answer = await self._ask("audio", {"longest": longest}, path, name, Path(folder.name))
        samples = np.memmap(Path(folder.name, "speech.f32"), np.float32, "r", shape=(answer["samples"],))
        native = NativeAudio(
            Path(folder.name, "native.s16"), answer["rate"], answer["channels"], answer["native"]
        )
        return Audio(samples, answer["rate"], answer["native"], native, name, folder)

    async def warm(self) -> None:
        """Starts a child, so that the first portrait need not wait for it."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._warm)

    def close(self) -> None:
        """Ends the children."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for child in self._children:
                child.close()

    async def _ask(self, what: str, options: dict[str, Any], path: Path, name: str, folder: Path) -> Any:
        request = {"what": what, "path": str(path), "name": name, "folder": str(folder), **options}
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._asked, request)

    def _asked(self, request: dict[str, Any]) -> Any:
        child = self._borrow()
        try:
            return child.ask(request)
        finally:
            with self._lock:
                self._idle.append(child)

    def _warm(self) -> None:
        child = self._borrow()
        child.ensure()
        with self._lock:
            self._idle.append(child)

    def _borrow(self) -> Child:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            child = Child(*self._limits)  # no more of them than threads
            self._children.append(child)
            return child


class Child:
    """One child process and the line to it; for one thread at a time."""

    def __init__(self, memory: int = MEMORY, cpu_s: int = CPU_S, patience_s: float = PATIENCE_S) -> None:
        self._memory, self._cpu_s, self._patience_s = memory, cpu_s, patience_s
        self._process: subprocess.Popen[bytes] | None = None
        self._files = 0
        self._room: tempfile.TemporaryDirectory[str] | None = None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The child's answer to one request; see `intake_child`.

        Raises the IfmdmError that the child names; BadInput when it dies or hangs.
        """
        if self._files >= RECYCLE:
            self.close()
        self.ensure()
        self._files += 1
        try:
            self._line.sendall(json.dumps(request).encode() + b"\n")
            self._wait()
            data = self._reader.readline()
            if not data:
                raise EOFError
            answer: dict[str, Any] = json.loads(data)
        except (OSError, EOFError, ValueError) as error:
            raise self._lost(request["name"], error) from None
        if "error" in answer:
            raise _error(answer)
        return answer

    def _wait(self) -> None:
        """Until there is an answer, or the child's end. Raises TimeoutError for one that stands still."""
        spent = self._spent()
        while not select.select([self._line], [], [], self._patience_s)[0]:
            before, spent = spent, self._spent()
            if spent - before < NOTHING * self._patience_s:
                raise TimeoutError

    def _spent(self) -> float:
        """Seconds of CPU of the child and what it runs; 0 where there is none any more."""
        assert self._process is not None
        spent = 0.0
        with contextlib.suppress(psutil.Error):
            child = psutil.Process(self._process.pid)
            for process in (child, *child.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    spent += sum(process.cpu_times()[:4])
        return spent

    def ensure(self) -> None:
        """A child is there now, an old one or a new one."""
        if self._process is None or self._process.poll() is not None:
            self.start()

    def start(self) -> None:
        """A new child now."""
        self.close()
        # A child that is killed leaves its temporary files, which may be large: they go with its folder.
        self._room = tempfile.TemporaryDirectory(prefix="ifmdm-intake-", ignore_cleanup_errors=True)
        ours, theirs = socket.socketpair()
        with theirs:
            code = "from serve.intake_child import main; main(%d, %d, %d)"
            self._process = subprocess.Popen(
                [sys.executable, "-c", code % (theirs.fileno(), self._memory, self._cpu_s)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={**_environment(), "TMPDIR": self._room.name},
                start_new_session=True,  # Ctrl-C is for us, who then end the child
            )
        ours.settimeout(self._patience_s)
        self._line, self._reader, self._files = ours, ours.makefile("rb"), 0

    def close(self) -> None:
        """End the child."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        self._reader.close()
        self._line.close()
        if self._room is not None:
            self._room.cleanup()

    def _lost(self, name: str, error: Exception) -> BadInput:
        how = f"stood still for {self._patience_s:g} s"
        if self._process is not None and not isinstance(error, TimeoutError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(5)
                how = (
                    f"ended it by {signal.Signals(-code).name}"
                    if code < 0
                    else f"ended it with status {code}"
                )
        self.close()
        return BadInput(
            f"{name}: cannot be decoded within the limits (its decoder {how})",
            fix="export it again, smaller or in another format",
        )


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}


def _array(path: Path) -> Any:
    return np.load(path, allow_pickle=False)


def _error(answer: dict[str, Any]) -> IfmdmError:
    kind = getattr(errors, str(answer["error"]), BadInput)
    error: IfmdmError = kind(answer["what"], fix=answer["fix"])
    error.http_status = answer["status"]
    return error
