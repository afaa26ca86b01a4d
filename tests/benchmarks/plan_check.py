"""Whether `ifmdm plan` foretells how long real jobs take, from rates measured on other jobs.

    python -m tests.benchmarks.plan_check --out docs/bench-plan.json

Renders --measured jobs with `ifmdm jobs work --local`, takes rates from them (`ifmdm plan rates --from-jobs`), has the
time of --jobs others foretold (`ifmdm plan --makespan`), then renders those too: other portraits, other lengths of
speech. The time counts from the first claim to the last published output. Ends with 1 where the foretold time is more
than 25 % off. Nothing else should run on the machine; about five minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image, ImageEnhance, ImageOps

from ifmdm_core.media.audio import read_audio
from ifmdm_core.storage import open_storage
from infra.planning.from_jobs import Sample, read_samples
from jobs.store import JobStore
from tests.benchmarks.serve_clients import SAMPLES, speech_wav
from tests.benchmarks.serve_load import circumstances
from tests.jobs.whole.commands import WorkProcess, ifmdm

BOUND = 0.25
"""The foretold time may be off by so much of the real one."""
WARM = 3
"""Jobs that are rendered first and not counted: files are in memory from then on."""
PER_PORTRAIT = 4
TELL_S = 15.0
PATIENCE_S = 1800.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measured", type=int, default=60, help="jobs that the rates are measured on")
    parser.add_argument("--jobs", type=int, default=200, help="jobs that are foretold")
    parser.add_argument("--slots", type=int, default=2, help="jobs under way at a time")
    parser.add_argument("--seed", type=int, default=1, help="of portraits and lengths")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {
        **circumstances(), "command": f"python -m tests.benchmarks.plan_check {' '.join(sys.argv[1:])}".strip(),
        "slots": options.slots, "measured_jobs": options.measured, "jobs": options.jobs,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="ifmdm-plan-") as folder:
        room = Path(folder)
        _tell(f"{WARM} jobs to warm up")
        _rendered(_batch(room / "warm", WARM, options.seed, (1.0, 1.5)), options.slots)
        _tell(f"{options.measured} jobs to measure rates on")
        measured = _rendered(
            _batch(room / "measured", options.measured, options.seed + 1, (0.9, 2.2)), options.slots
        )
        rates = room / "rates.json"
        ifmdm("plan", "rates", "--from-jobs", str(room / "measured" / "jobs"), "-o", str(rates))
        found["rates"] = json.loads(rates.read_text())
        others = _batch(room / "others", options.jobs, options.seed + 2, (1.0, 2.0))
        slots = ("--slots", str(options.slots))
        makespan = ("plan", "--makespan", "--rates", str(rates), *slots, "--json", "--jobs-manifest")
        found["themselves"] = _compared(
            json.loads(ifmdm(*makespan, str(room / "measured" / "plan.csv")))["seconds"], _makespan(measured)
        )
        foretold = json.loads(ifmdm(*makespan, str(others / "plan.csv")))
        _tell(f"{options.jobs} others are foretold to take {foretold['seconds']:.1f} s; now for real")
        real = _rendered(others, options.slots)
        found |= {"foretold": foretold, **_compared(foretold["seconds"], _makespan(real))}
    found["within_bound"] = abs(found["ratio"] - 1) <= BOUND
    found["load_after"] = round(os.getloadavg()[0], 2)
    print(json.dumps({name: value for name, value in found.items() if name != "rates"}, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    _tell(f"foretold {found['predicted_s']} s, real {found['real_s']} s, ratio {found['ratio']}")
    sys.exit(0 if found["within_bound"] else 1)


def _batch(base: Path, count: int, seed: int, lengths: tuple[float, float]) -> Path:
    """Inputs, a manifest to submit and one to plan with, and a store with these jobs submitted. Returns `base`."""
    chance = random.Random(seed)
    inputs = base / "in"
    inputs.mkdir(parents=True)
    speech = read_audio(SAMPLES / "speech.flac").samples  # [n] at 16 kHz
    photo = Image.open(SAMPLES / "astronaut.jpg").convert("RGB")
    rows, plan = [], []
    for number in range(count):
        portrait = inputs / f"{number // PER_PORTRAIT}.jpg"
        if not portrait.exists():
            _changed(photo, chance).save(portrait, quality=92)
        seconds = round(chance.uniform(*lengths), 2)
        audio = inputs / f"{number}.wav"
        begin = chance.randrange(len(speech) // 2)
        audio.write_bytes(speech_wav(speech[begin:], seconds))
        output = base / "out" / f"{number}.mp4"
        rows.append({"portrait": str(portrait), "audio": str(audio), "output": str(output)})
        plan.append({"speech_seconds": seconds})
    for name, content in (("jobs.csv", rows), ("plan.csv", plan)):
        with (base / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(content[0]))
            writer.writeheader()
            writer.writerows(content)
    store = str(base / "jobs")
    ifmdm("jobs", "init", store, "--allow-input", str(base), "--allow-output", str(base))
    ifmdm("jobs", "submit", "--manifest", str(base / "jobs.csv"), "--root", store)
    return base


def _changed(photo: Image.Image, chance: random.Random) -> Image.Image:
    """Another picture of the same face: mirrored or not, brighter or darker, of another size."""
    changed = ImageOps.mirror(photo) if chance.random() < 0.5 else photo
    side = chance.randrange(400, 640)
    return ImageEnhance.Brightness(changed).enhance(chance.uniform(0.85, 1.15)).resize((side, side))


def _rendered(base: Path, slots: int) -> list[Sample]:
    """Renders what was submitted; the jobs as they went. Raises AssertionError where one is missing."""
    root, began = base / "jobs", time.monotonic()
    storage = open_storage(root)
    count = len((base / "plan.csv").read_text().splitlines()) - 1
    options = ("--local", "--slots", str(slots), "--until-done", "--set", f"root={base / 'stages'}")
    with WorkProcess(str(root), base / "log", *options) as work:
        told = began
        while work.lives:
            time.sleep(0.5)
            now = time.monotonic()
            if now - told > TELL_S:
                told = now
                ended = sum(1 for _ in storage.list("ended/"))
                _tell(f"  {ended} of {count} after {now - began:.0f} s")
            assert now - began < PATIENCE_S, work.last_words()
        assert work.wait(1) == 0, work.last_words()
    samples = read_samples(JobStore(storage, "plan"))
    assert len(samples) == count, f"{len(samples)} of {count} were published at once: {work.last_words()}"
    return samples


def _makespan(samples: list[Sample]) -> float:
    """Seconds from the first claim to the last published output."""
    return max(sample.published_at for sample in samples) - min(sample.claimed_at for sample in samples)


def _compared(predicted_s: float, real_s: float) -> dict[str, float]:
    return {
        "predicted_s": round(predicted_s, 2), "real_s": round(real_s, 2), "ratio": round(predicted_s / real_s, 3)
    }  # fmt: skip


def _tell(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
