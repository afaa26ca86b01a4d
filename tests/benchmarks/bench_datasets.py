"""How much of the bare stages' speed `ifmdm data clips` and `ifmdm data features` keep, and what they cost in memory.

    python -m tests.benchmarks.bench_datasets SOURCE --out bench-datasets.json

Cases run in turns, so that a slow minute of the machine touches all alike; medians are reported with all runs beside
them. Nothing here is timed while models load or Ray starts; `started_s` says how long that took.

    bare       the very functions of the workers (hash and probe, cut, encode speech, encode motion), one after the
               other in this process: no shards, no storage, no Ray
    script     what one would write first: read a whole video, find faces, crop, encode, then both encoders; it
               looks for no cuts, measures no quality and no sync, and writes no dataset
    pipeline   both commands with one worker: its rate divided by that of `bare` is what the issue asks for
    pipeline x N  with N workers
    reextract     within a pipeline run: motion again by another encoder, as a part of the whole extraction
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ifmdm_core.media.clip_codec import encode_clip, encode_sound
from ifmdm_core.media.decoder_process import DecoderProcess
from ifmdm_core.media.face import clip_square, crop, find_faces
from ifmdm_core.media.video import read_frames, read_video_audio
from pipelines.clips.cut import CutClip, cut_span
from pipelines.clips.probe import probe_source
from pipelines.clips.sources import SourceItem, list_sources
from pipelines.dataset.parameters import ClipParameters
from pipelines.dataset.plan import PlannedSource, spans_of
from pipelines.features.encoders import MotionFeatures, SpeechFeatures
from pipelines.run.clips import ClipsRun
from pipelines.run.cluster import connect
from pipelines.run.features import FeaturesRun
from pipelines.run.pool import Pool
from pipelines.run.progress import Progress
from pipelines.run.settings import RunSettings
from pipelines.run.workers import ClipWorker, FeatureWorker, start

SHARD_S = 10.0
"""Seconds of video in a shard: small enough for a short benchmark to have work for several workers."""


@dataclass
class Timed:
    """One run of one case: seconds of each half, and the clip frames that came out."""

    clips_s: float
    features_s: float
    frames: int
    more: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "clips_s": round(self.clips_s, 3), "features_s": round(self.features_s, 3), "frames": self.frames,
            "clips_fps": round(self.frames / self.clips_s, 2), "features_fps": round(self.frames / self.features_s, 2),
            "fps": round(self.frames / (self.clips_s + self.features_s), 2), **self.more,
        }  # fmt: skip


class Encoders:
    """Both encoders of the demo bundle, loaded once."""

    def __init__(self) -> None:
        self.speech = SpeechFeatures.from_reference("demo")
        self.motion = MotionFeatures.from_bundle("demo")

    def encode(self, videos: list[bytes], sounds: list[bytes | None], frames: list[int]) -> None:
        self.speech.encode(sounds, frames)
        self.motion.encode(videos, frames)


def bare(items: list[SourceItem], encoders: Encoders, parameters: ClipParameters) -> Timed:
    """The functions of the workers on every source."""
    made: list[CutClip] = []
    with DecoderProcess() as decoder:
        _warm(items[0], decoder, parameters)
        begun = time.perf_counter()
        for item in items:
            probed = probe_source(item)
            if probed.duration is None:
                continue
            source = PlannedSource(
                source=item.source, file=item.source, uri=item.uri, sha256=probed.sha256, size=item.size,
                stamp=item.stamp, duration=probed.duration,
            )  # fmt: skip
            for span in spans_of(source, parameters.span_s):
                made += cut_span(Path(item.uri), span.start, span.end, parameters, decoder)[0]
        cut = time.perf_counter()
    frames = [clip.num_frames for clip in made]
    encoders.encode([clip.video for clip in made], [clip.audio for clip in made], frames)
    return Timed(cut - begun, time.perf_counter() - cut, sum(frames))


def script(items: list[SourceItem], encoders: Encoders, parameters: ClipParameters) -> Timed:
    """One file after the other, the obvious way."""
    clips_s = features_s = 0.0
    count = 0
    for item in items:
        begun = time.perf_counter()
        path = Path(item.uri)
        images = list(read_frames(path, parameters.fps))
        boxes = [faces[0].box for image in images[:: parameters.track_step] if (faces := find_faces(image))]
        if not boxes:
            continue
        square = clip_square(boxes)
        size = min(parameters.size, int(square.side) // 2 * 2)
        video = encode_clip((crop(image, square, size) for image in images), parameters.fps, parameters.crf)
        audio = read_video_audio(path)
        sound = None if audio is None else encode_sound(audio.samples)
        cut = time.perf_counter()
        encoders.encode([video], [sound], [len(images)])
        clips_s += cut - begun
        features_s += time.perf_counter() - cut
        count += len(images)
    return Timed(clips_s, features_s, count)


class WarmPool(Pool):
    """A pool that is entered when all of its workers have loaded their models."""

    entered = ready = 0.0

    def __enter__(self) -> WarmPool:
        import ray

        self.entered = time.perf_counter()
        super().__enter__()
        refs = [slot.ref for slot in self._slots]
        ray.wait(refs, num_returns=len(refs), timeout=600)
        self.ready = time.perf_counter()
        return self


def pipeline(source: str, parameters: ClipParameters, workers: int) -> Timed:
    """Both commands, as the command line runs them."""
    settings = RunSettings(workers=workers)
    with tempfile.TemporaryDirectory(prefix="ifmdm-bench-") as folder, connect() as _:
        dataset = str(Path(folder) / "set")
        before = _object_store_bytes()
        cutting = ClipsRun(source, dataset, parameters, settings, shard_s=SHARD_S, report=_silent)
        clips, clips_memory, clips_start = _timed(
            cutting, "clips", ClipWorker, settings, dataset, parameters, None
        )
        encoding = FeaturesRun(dataset, settings, speech="demo", motion="demo", report=_silent)
        features, features_memory, features_start = _timed(
            encoding,
            "features",
            FeatureWorker,
            settings,
            dataset,
            encoding.generation_name,
            encoding.wanted,
            None,
        )
        created = _object_store_bytes() - before
        again = _reextracted(dataset, settings, Path(folder)) if workers > 1 else None
        listed = cutting.run(lambda: _never(), Progress("clips", quiet=True))
    more = {
        "workers": workers, "clips": listed["clips"], "content": listed["content"],
        "started_s": round(clips_start + features_start, 1), "object_store_bytes": created,
        "object_store_bytes_per_frame": round(created / max(1, listed["frames"]), 1),
        **({} if again is None else {"reextract_s": round(again, 3),
                                     "reextract_part": round(again / (clips + features), 3)}),
        "memory": {"clips": clips_memory, "features": features_memory},
    }  # fmt: skip
    return Timed(clips, features, listed["frames"], more)


def _reextracted(dataset: str, settings: RunSettings, folder: Path) -> float:
    """Seconds of `data features` with another motion encoder."""
    run = FeaturesRun(dataset, settings, motion=str(_another_encoder(folder)), report=_silent)
    return _timed(run, "features", FeatureWorker, settings, dataset, run.generation_name, run.wanted, None)[0]


def _another_encoder(folder: Path) -> Path:
    """The demo's autoencoder with other motion weights: a set of its own."""
    import torch

    from ifmdm_core.bundle import load_bundle
    from ifmdm_core.weights import save_weights

    model = load_bundle("demo").autoencoder()
    torch.manual_seed(1)
    for name, weights in model.named_parameters():
        if name.startswith("motion_encoder"):
            weights.data.mul_(1 + 0.02 * torch.randn_like(weights))
    save_weights(folder / "other.safetensors", model, model.config)
    return folder / "other.safetensors"


def _timed(
    run: Any, stage: str, kind: type, settings: RunSettings, *arguments: Any
) -> tuple[float, dict[str, Any], float]:
    """Seconds of a run without the start of its workers, their memory, and seconds of that start."""
    pools: list[WarmPool] = []

    def make() -> WarmPool:
        pools.append(WarmPool(lambda: start(kind, settings, *arguments), settings.workers or 1))
        return pools[-1]

    begun = time.perf_counter()
    with Progress(stage, quiet=True) as progress, MemorySampler(kind.__name__, progress) as memory:
        done = run.run(make, progress)
    ended = time.perf_counter()
    if done["failed"]:
        raise SystemExit(f"{stage} failed: {done['failed']}")
    starting = pools[0].ready - pools[0].entered
    return ended - begun - starting, memory.account(), starting


class MemorySampler:
    """Resident memory of our workers and their decoding children, every two seconds, against clips finished."""

    def __init__(self, worker: str, progress: Progress) -> None:
        self._worker, self._progress = worker, progress
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.samples: list[tuple[int, float]] = []
        """(clips finished, MB)"""

    def __enter__(self) -> MemorySampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(2.0):
            if size := _resident_mb(f"ray::{self._worker}"):
                self.samples.append((self._progress.done["clips"], size))

    def account(self) -> dict[str, Any]:
        """Peak, and the slope over the clips after the first fifth, in which caches and heaps fill."""
        if not self.samples:
            return {}
        clips, sizes = np.array(self.samples).T
        late = clips >= clips.max() * 0.2
        slope = float(np.polyfit(clips[late], sizes[late], 1)[0]) if len(set(clips[late])) > 2 else None
        return {
            "peak_mb": round(float(sizes.max()), 1), "clips": int(clips.max()),
            "mb_per_100_clips": None if slope is None else round(slope * 100, 3),
            "samples": [[int(c), round(float(s), 1)] for c, s in self.samples[:: max(1, len(self.samples) // 200)]],
        }  # fmt: skip


def _object_store_bytes() -> int:
    """Everything ever put into the object stores of the cluster's nodes."""
    import ray
    from ray._private.internal_api import node_stats

    return sum(
        node_stats(
            node["NodeManagerAddress"], node["NodeManagerPort"], False
        ).store_stats.cumulative_created_bytes
        for node in ray.nodes()
        if node["Alive"]
    )


def _resident_mb(title: str) -> float:
    """Memory of those of our descendants whose title begins so, and of their children."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (ValueError, OSError):
            continue
    ours, total = _below(os.getpid(), parents), 0.0
    for worker in [pid for pid in ours if _title(pid).startswith(title)]:
        for pid in {worker, *_below(worker, parents)}:
            try:
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            except OSError:
                continue
            total += pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return total


def _below(root: int, parents: dict[int, int]) -> set[int]:
    found = {root}
    while new := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= new
    return found - {root}


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _warm(item: SourceItem, decoder: DecoderProcess, parameters: ClipParameters) -> None:
    """Face net, scorer and the decoder's process are there before the clock starts, as in a ready worker."""
    cut_span(Path(item.uri), 0.0, 2.0, parameters, decoder)


def _never() -> Pool:
    raise SystemExit("a finished dataset was not recognised as finished")


def _silent(line: str) -> None:
    del line


def median_of(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Medians of the rates."""
    return {
        name: round(statistics.median(run[name] for run in runs), 2)
        for name in ("clips_fps", "features_fps", "fps")
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.bench_datasets", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("source", help="folder of videos")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--limit", type=int, help="only the first N videos")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="workers of the last case")
    parser.add_argument("--cases", nargs="+", help="only these, e.g. 'pipeline x 2'; default: all")
    parser.add_argument("--out", type=Path, required=True, help="JSON with every run")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    parameters = ClipParameters()
    with tempfile.TemporaryDirectory(prefix="ifmdm-bench-source-") as folder:
        items = list_sources(options.source, None, options.limit).items
        for item in items:  # what the commands are given, so that all cases see the same files
            (Path(folder) / Path(item.uri).name).symlink_to(Path(item.uri).resolve())
        encoders = Encoders()
        cases: dict[str, Callable[[], Timed]] = {
            "bare": lambda: bare(items, encoders, parameters),
            "script": lambda: script(items, encoders, parameters),
            "pipeline": lambda: pipeline(folder, parameters, 1),
        }
        if options.workers > 1:
            cases[f"pipeline x {options.workers}"] = lambda: pipeline(folder, parameters, options.workers)
        cases = {name: case for name, case in cases.items() if name in (options.cases or cases)}
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in cases}
        for number in range(options.runs):
            for name, case in cases.items():
                runs[name].append(case().as_dict())
                latest = {k: v for k, v in runs[name][-1].items() if k.endswith("fps")}
                print(f"run {number + 1} of {options.runs}  {name}: {latest}", flush=True)
    medians = {name: median_of(made) for name, made in runs.items()}
    ratios = {
        f"{name} / bare": {k: round(medians[name][k] / medians["bare"][k], 3) for k in medians["bare"]}
        for name in cases
        if name != "bare" and "bare" in cases
    }
    result = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, torch {torch.__version__}",
        "sources": len(items), "runs": options.runs, "median": medians, "ratio": ratios, "all": runs,
    }  # fmt: skip
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({"median": medians, "ratio": ratios}, indent=1))


if __name__ == "__main__":
    main()
