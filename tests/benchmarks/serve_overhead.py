"""What going through the service costs: wall time over HTTP ÷ wall time in one process, of the same render.

    python -m tests.benchmarks.serve_overhead --seconds 30 --runs 5 --out bench-serve-overhead.json

Both read the same photo and speech from disk and write the video to disk; runs take turns. Loading models, starting the
service and one render to warm each are not counted. The process that renders in place is another one than this and the
service's, and torch has there as many threads as it likes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from ifmdm_core.media.audio import read_audio
from tests.benchmarks.serve_clients import SAMPLES, count_frames, speech_wav
from tests.benchmarks.serve_load import circumstances
from tests.service_process import ROOT, ServiceProcess

_IN_PLACE = """
import json, sys, time
from ifmdm_core.talking_head import TalkingHead
from ifmdm_core.controls import RenderControls
head = TalkingHead.load(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    photo, audio, output = json.loads(line)
    began = time.monotonic()
    head.render(photo, audio, RenderControls()).save(output)
    print(time.monotonic() - began, flush=True)
"""


class InPlace:
    """TalkingHead in a process of its own, told to render by lines."""

    def __init__(self, model: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _IN_PLACE, model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._line()

    def render(self, photo: Path, audio: Path, output: Path) -> float:
        """Seconds it took."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(photo), str(audio), str(output)]) + "\n")
        self._process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the process that renders in place has ended")
        return line.strip()


def served(url: str, photo: Path, audio: Path, output: Path, fields: dict[str, str]) -> float:
    """Seconds from reading the inputs to the last byte on disk."""
    began = time.monotonic()
    with photo.open("rb") as picture, audio.open("rb") as sound, output.open("wb") as file:
        files = {"portrait": (photo.name, picture), "audio": (audio.name, sound)}
        with httpx.stream("POST", f"{url}/v1/render", files=files, data=fields, timeout=600) as answer:
            if answer.status_code != 200:
                raise SystemExit(f"{answer.status_code}: {answer.read()[:500]!r}")
            for piece in answer.iter_raw():
                file.write(piece)
    return time.monotonic() - began


def measure(service: ServiceProcess, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    photo, audio, output = SAMPLES / "astronaut.jpg", folder / "speech.wav", folder / "out.mp4"
    audio.write_bytes(speech_wav(read_audio(SAMPLES / "speech.flac").samples, options.seconds))
    alone = InPlace(options.model)
    cases = {
        "served": lambda: served(service.url, photo, audio, output, {}),
        "in_process": lambda: alone.render(photo, audio, output),
    }
    runs: dict[str, list[float]] = {name: [] for name in cases}
    try:
        for number in range(options.runs + 1):
            for name, case in cases.items():
                seconds = case()
                frames, _ = count_frames(output.read_bytes())
                assert frames == int(options.seconds * 25 + 0.5), f"{name}: {frames} frames"
                if number:  # the first only warms
                    runs[name].append(round(seconds, 3))
                    print(name, runs[name][-1], flush=True)
    finally:
        alone.close()
    medians = {name: statistics.median(done) for name, done in runs.items()}
    ratio = round(medians["served"] / medians["in_process"], 3)
    return {
        "seconds_of_speech": options.seconds,
        "median_s": medians,
        "served_by_in_process": ratio,
        "all_s": runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30, help="of speech")
    parser.add_argument("--runs", type=int, default=5, help="of each case")
    parser.add_argument("--model", default="demo", help="demo or a bundle folder")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="settings of the service")
    parser.add_argument("--config", type=Path, default=ROOT / "configs/serve/demo.yaml")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    where = circumstances()
    with (
        tempfile.TemporaryDirectory() as folder,
        ServiceProcess(
            Path(folder), f"model={options.model}", *options.set, config=options.config
        ) as service,
    ):
        result = measure(service, options, Path(folder))
    options.out.write_text(json.dumps({**where, **result}, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
