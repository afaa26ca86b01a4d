"""A manifest of short renders with rows that must fail, and what has to come of it."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
from PIL import Image

from ifmdm_core.media.audio import read_audio
from ifmdm_core.storage import S3Config, Storage, open_storage
from tests.benchmarks.serve_clients import SAMPLES, speech_wav
from tests.jobs.whole.commands import WorkProcess, ifmdm

BAD = 10
"""Ways in which a row can be bad; a manifest has all of them for every PER_BAD rows."""
PER_BAD = 200
FPS = 25


@dataclass
class Expected:
    """What has to come of a manifest."""

    frames: dict[str, int] = field(default_factory=dict)
    """Of the video at each output that must be published."""
    failing: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By output: the field that is at fault, and a word of the reason."""
    refused: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Likewise by line, for rows that are refused at submit."""


@dataclass(frozen=True)
class Inputs:
    """Good and bad ones in a store; (URI, frames) of the good sounds."""

    portraits: list[str]
    sounds: list[tuple[str, int]]
    bad: dict[str, str]


def run_manifest(rows: int, base: str, s3: S3Config, folder: Path) -> dict[str, Any]:
    """All of it: inputs, manifest, submit, work, results and what they must be; figures. `base` is a free prefix."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest, results, root = folder / "jobs.csv", folder / "results.jsonl", f"{base}/jobs"
    endpoint = ("--endpoint", str(s3.endpoint))
    store = ("--root", root, *endpoint)
    expected = write_manifest(manifest, rows, put_inputs(open_storage(base, s3)), f"{base}/videos")
    ifmdm("jobs", "init", root, *endpoint)
    ifmdm("jobs", "submit", "--manifest", str(manifest), *store, codes=(2,))
    settings = ("--set", f"root={folder / 'stages'}", "--slots", "3", "--until-done")
    with WorkProcess(root, folder / "work.log", "--local", *settings, *endpoint) as work:
        assert work.wait(100 + 3 * rows) == 0, work.last_words()
    ifmdm("jobs", "results", "--manifest", str(manifest), "-o", str(results), *store)
    ifmdm("jobs", "fsck", *store)
    return check_results(results, expected, open_storage(f"{base}/videos", s3))


def put_inputs(storage: Storage) -> Inputs:
    """The bundled portrait and some crops of it, short pieces of the bundled speech, and what only looks like them."""
    speech = read_audio(SAMPLES / "speech.flac").samples
    photo = Image.open(SAMPLES / "astronaut.jpg").convert("RGB")
    chance = random.Random(0)

    def put(key: str, data: bytes) -> str:
        storage.put(key, data)
        return str(storage.root.join(key))

    portraits = []
    for number, (left, top, right, bottom) in enumerate(((0, 0, 0, 0), (30, 0, 20, 90), (60, 10, 60, 120))):
        crop = photo.crop((left, top, photo.width - right, photo.height - bottom))
        portraits.append(put(f"faces/{number}.jpg", _encoded(crop, "JPEG")))
    sounds = []
    for number, seconds in enumerate((0.2, 0.24, 0.28, 0.36, 0.4)):
        piece = speech[1600 * 5 * number :]
        sounds.append((put(f"speech/{number}.wav", speech_wav(piece, seconds)), round(seconds * FPS)))
    bad = {
        "noise": put("bad/noise.wav", chance.randbytes(4000)),
        "playlist": put("bad/list.mp3", b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/secret.wav\n"),
        "broken": put("bad/broken.jpg", (SAMPLES / "astronaut.jpg").read_bytes()[:2000]),
        "faceless": put("bad/sky.png", _encoded(Image.new("RGB", (300, 300), (90, 140, 220)), "PNG")),
    }
    return Inputs(portraits, sounds, bad)


def write_manifest(path: Path, rows: int, inputs: Inputs, outputs: str) -> Expected:
    """A CSV of so many rows, whose videos go to `outputs`, a prefix without a slash at its end."""
    expected = Expected()
    bad = _bad_rows(inputs, outputs)
    chance = random.Random(rows)
    numbers = [PER_BAD * part + n for part in range(rows // PER_BAD)
               for n in chance.sample(range(1, PER_BAD), BAD)]  # fmt: skip
    kinds = dict(zip(numbers, itertools.cycle(bad)))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["portrait", "audio", "output", "controls.seed", "controls.steps", "controls.size"])
        for number in range(rows):
            sound, frames = inputs.sounds[number % len(inputs.sounds)]
            row = {
                "portrait": inputs.portraits[number % len(inputs.portraits)], "audio": sound,
                "output": f"{outputs}/{number:06d}.mp4", "seed": number, "steps": 2, "size": 64 if number % 8 else "",
            }  # fmt: skip
            if number not in kinds:
                expected.frames[row["output"]] = frames
            else:
                change, at_submit, about, word = kinds[number]
                row.update(change(row["output"]))
                if at_submit:
                    expected.refused[number + 2] = (about, word)
                else:
                    expected.failing[row["output"]] = (about, word)
            writer.writerow(row.values())
    return expected


def check_results(results: Path, expected: Expected, outputs: Storage) -> dict[str, Any]:
    """The table of `ifmdm jobs results` and what lies at the outputs are as they have to be; some figures.

    Raises AssertionError saying which row is not.
    """
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    states: dict[str, int] = {}
    published, failed, refused = {}, {}, {}
    for row in rows:
        states[row["state"]] = states.get(row["state"], 0) + 1
        if row["state"] == "published":
            published[row["output"]] = row
        elif row["state"] == "failed":
            failed[row["output"]] = row
        elif row["state"] == "rejected":
            refused[row["line"]] = row
    assert set(published) == set(expected.frames), states
    assert set(failed) == set(expected.failing), states
    assert set(refused) == set(expected.refused), states
    for row, (about, word) in (
        *((failed[output], fault) for output, fault in expected.failing.items()),
        *((refused[line], fault) for line, fault in expected.refused.items()),
    ):
        assert row["field"] == about, row
        assert word in row["reason"], row
    there = {str(outputs.root.join(item.key)): item.key for item in outputs.list()}
    assert set(there) == set(published), "what lies under the output prefix"
    for output, key in there.items():
        data = outputs.get(key)
        assert hashlib.sha256(data).hexdigest() == published[output]["sha256"], output
        with av.open(io.BytesIO(data)) as container:
            frames = sum(1 for _ in container.decode(video=0))
        assert frames == expected.frames[output] == published[output]["frames"], output
    return {**states, "frames": sum(expected.frames.values())}


def _bad_rows(inputs: Inputs, outputs: str) -> list[tuple[Callable[[str], dict[str, Any]], bool, str, str]]:
    """What makes a row bad, whether that shows at submit, which field is at fault, and a word of the reason."""
    bucket = outputs.removeprefix("s3://").partition("/")[0]
    return [
        (lambda out: {"steps": "many"}, True, "controls.steps", "many"),
        (lambda out: {"audio": f"s3://{bucket}/nowhere/x.wav"}, True, "audio", "nothing"),
        (
            lambda out: {"output": out.replace(f"s3://{bucket}/", f"s3://{bucket}-of-others/")},
            True,
            "output",
            "outside",
        ),
        (lambda out: {"output": f"{outputs}/000000.mp4"}, True, "output", "line 2"),
        (lambda out: {"output": out.replace(".mp4", ".mov")}, True, "output", ".mov"),
        (lambda out: {"size": 63}, True, "controls.size", "63"),
        (lambda out: {"audio": inputs.bad["noise"]}, False, "audio", "noise.wav"),
        (lambda out: {"audio": inputs.bad["playlist"]}, False, "audio", "playlist"),
        (lambda out: {"portrait": inputs.bad["broken"]}, False, "portrait", "broken.jpg"),
        (lambda out: {"portrait": inputs.bad["faceless"]}, False, "portrait", "face"),
    ]


def _encoded(picture: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()
