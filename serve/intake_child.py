"""The child of `intake`: decodes one file after the other under limits; requests and answers are lines of JSON.

It keeps to the folder it is given for what it writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from ifmdm_core.errors import BadInput, IfmdmError

FILE_BYTES = 2 << 30
"""Most bytes of a file it writes."""


def main(line: int, memory: int, cpu_s: int) -> None:
    """Answers on the socket `line` until it closes.

    Args:
        memory: bytes of data.
        cpu_s: seconds of CPU for one file; more ends this process.
    """
    _limit("RLIMIT_DATA", memory)
    _limit("RLIMIT_FSIZE", FILE_BYTES)
    _limit("RLIMIT_CORE", 0)
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    from ifmdm_core.portrait import open_portrait

    del open_portrait  # only loaded, before the first file waits for it
    connection = socket.socket(fileno=line)
    with connection, connection.makefile("rb") as requests:
        for request in requests:
            _grant(cpu_s)
            connection.sendall(json.dumps(_answer(json.loads(request))).encode() + b"\n")


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return _portrait(request) if request["what"] == "portrait" else _audio(request)
    except IfmdmError as error:
        return {
            "error": type(error).__name__, "what": error.what, "fix": error.fix, "status": error.http_status
        }  # fmt: skip
    except Exception as error:  # a decoder's own exception, a MemoryError: the file is at fault
        what = f"{request['name']}: cannot be decoded ({type(error).__name__})"
        fix = "export it again, smaller or in another format"
        return {"error": "BadInput", "what": what, "fix": fix, "status": BadInput.http_status}


def _portrait(request: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    from ifmdm_core.controls import RenderControls
    from ifmdm_core.media.image import read_image
    from ifmdm_core.portrait import open_portrait

    image = read_image(Path(request["path"]).read_bytes(), request["name"])
    portrait = open_portrait(image, RenderControls(**request["controls"]), request["size"])
    folder = Path(request["folder"])
    np.save(folder / "crop.npy", portrait.crop)
    if portrait.output is None:
        np.save(folder / "whole.npy", portrait.whole)
    square = portrait.square
    return {
        "square": [float(square.cx), float(square.cy), float(square.side)],
        "output": portrait.output,
        "note": portrait.note,
    }


def _audio(request: dict[str, Any]) -> dict[str, Any]:
    from ifmdm_core.media.audio import read_audio

    folder = Path(request["folder"])
    tempfile.tempdir = str(folder)
    audio = read_audio(request["path"], request["name"], longest=request["longest"])
    os.rename(audio.samples.filename, folder / "speech.f32")  # type: ignore[attr-defined]
    os.rename(audio.native.path, folder / "native.s16")
    return {
        "samples": len(audio.samples),
        "rate": audio.native.rate,
        "channels": audio.native.channels,
        "native": audio.native.num_samples,
    }


def _limit(name: str, value: int) -> None:
    with contextlib.suppress(
        ImportError, AttributeError, ValueError, OSError
    ):  # no such limit here, or lower
        import resource

        resource.setrlimit(getattr(resource, name), (value, value))


def _grant(seconds: int) -> None:
    """`seconds` more of CPU time from now on."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        spent = resource.getrusage(resource.RUSAGE_SELF)
        used = spent.ru_utime + spent.ru_stime
        resource.setrlimit(resource.RLIMIT_CPU, (int(used) + seconds, resource.RLIM_INFINITY))
