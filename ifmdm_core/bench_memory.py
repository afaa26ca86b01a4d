"""Whether memory grows with the length of the audio: peak memory of whole renders, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ifmdm_core.bench import Figure
from ifmdm_core.errors import IfmdmError

_CHILD = """
import json, resource, sys
from pathlib import Path
from ifmdm_core.commands.render import render_file
from ifmdm_core.controls import RenderControls
photo, audio, output, model = sys.argv[1:]
report = render_file(photo, audio, Path(output), RenderControls(), model=model, quiet=True)
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, report["frames"]]))
"""


def memory_figures(
    model: str, photo: str | Path, audio: str | Path, seconds: Sequence[float] = (10.0, 600.0)
) -> list[Figure]:
    """Peak resident memory [MB] of rendering `audio` repeated to each length, and the growth over the first.

    The encoder's process is not included. Raises IfmdmError when a render fails.
    """
    figures, peaks = [], []
    with tempfile.TemporaryDirectory(prefix="ifmdm-memory-") as folder:
        for length in seconds:
            speech = _repeated(audio, length, Path(folder) / "speech.wav")
            peak, frames = _peak(model, photo, speech, Path(folder) / "out.mp4")
            peaks.append(peak / 1e6)
            setting = f"{length:.0f} s of audio, {frames} frames"
            figures.append(
                _row(setting, peaks[-1], "peak resident memory of the whole render, without ffmpeg's")
            )
    figures.append(
        _row(f"{seconds[-1]:.0f} s over {seconds[0]:.0f} s", peaks[-1] - peaks[0], "difference of the two")
    )
    return figures


def _row(setting: str, value: float, includes: str) -> Figure:
    return Figure("memory", setting, value, "MB", value, value, 1, includes)


def _repeated(audio: str | Path, seconds: float, path: Path) -> Path:
    from ifmdm_core.media.audio import read_audio

    samples = np.asarray(read_audio(audio).samples)
    block = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
    wanted = round(seconds * 16_000) * 2  # bytes
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        while wanted > 0:
            file.writeframes(block[:wanted])
            wanted -= len(block)
    return path


def _peak(model: str, photo: str | Path, audio: Path, output: Path) -> tuple[int, int]:
    """(bytes, frames) of one render."""
    command = [sys.executable, "-c", _CHILD, str(photo), str(audio), str(output), model]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise IfmdmError(
            f"the render to be measured failed: {(done.stderr.splitlines() or ['no message'])[-1]}"
        )
    peak, frames = json.loads(done.stdout.splitlines()[-1])
    return peak, frames
