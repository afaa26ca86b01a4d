"""When the fragments of a long video arrive at `curl`, against how long its render takes.

    python -m tests.benchmarks.serve_stream --seconds 60 --out bench-serve-stream.json

Starts `ifmdm serve` with its demo configuration (or takes --url), sends the bundled photo and speech with curl, and
reads what it writes: the time of every fragment (an `moof` box) since curl began.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import tempfile
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

from ifmdm_core.media.audio import read_audio
from tests.benchmarks.serve_clients import FPS, SAMPLES, count_frames, speech_wav
from tests.benchmarks.serve_load import circumstances
from tests.service_process import ROOT, ServiceProcess


def fragment_times(
    url: str, audio: Path, *fields: str, token: str | None = None
) -> tuple[list[float], float, bytes]:
    """(seconds at which each fragment began to arrive, seconds until the end, the file), by curl without buffering."""
    command = [
        "curl",
        "-sSN",
        "--fail-with-body",
        "-F",
        f"portrait=@{SAMPLES / 'astronaut.jpg'}",
        "-F",
        f"audio=@{audio}",
    ]
    for text in fields:
        command += ["-F", text]
    if token:
        command += ["-H", f"Authorization: Bearer {token}"]
    print("$", shlex.join([*command, f"{url}/v1/render"]))
    data, times, began = bytearray(), [], time.monotonic()
    with subprocess.Popen([*command, f"{url}/v1/render"], stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        while piece := os.read(curl.stdout.fileno(), 65_536):
            seen = max(0, len(data) - 3)  # a box's name may be cut in two
            data += piece
            now = time.monotonic() - began
            times += [now] * data.count(b"moof", seen)
    total = time.monotonic() - began
    if curl.returncode:
        raise SystemExit(f"curl ended with {curl.returncode}: {bytes(data[:500])!r}")
    return times, total, bytes(data)


def measure(url: str, options: argparse.Namespace) -> dict[str, Any]:
    """One stream, judged."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as audio:
        audio.write(speech_wav(read_audio(SAMPLES / "speech.flac").samples, options.seconds))
        audio.flush()
        times, total, data = fragment_times(url, Path(audio.name), *options.field, token=options.token)
    frames, sound = count_frames(data)
    gaps = [later - sooner for sooner, later in pairwise(times)]
    return {
        "seconds_of_speech": options.seconds,
        "fragments": len(times),
        "first_fragment_s": round(times[0], 3),
        "last_fragment_s": round(times[-1], 3),
        "total_s": round(total, 3),
        "longest_gap_s": round(max(gaps, default=0.0), 3),
        "share_of_time_streaming": round((times[-1] - times[0]) / total, 3),
        "frames": frames,
        "frames_expected": int(options.seconds * FPS + 0.5),
        "sound_packets": sound,
        "bytes": len(data),
        "times_s": [round(at, 3) for at in times],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="a running service")
    parser.add_argument("--token", help="for it")
    parser.add_argument("--seconds", type=float, default=60, help="of speech")
    parser.add_argument("--field", action="append", default=[], metavar="NAME=VALUE", help="controls")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="settings of the service")
    parser.add_argument("--config", type=Path, default=ROOT / "configs/serve/demo.yaml")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    where = circumstances()
    with ExitStack() as stack:
        url = options.url
        if not url:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            url = stack.enter_context(ServiceProcess(folder, *options.set, config=options.config)).url
        result = measure(url, options)
    options.out.write_text(json.dumps({**where, **result}, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
