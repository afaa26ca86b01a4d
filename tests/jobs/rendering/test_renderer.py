"""One task becomes one signed file: what is in it, what is told meanwhile, what is kept of the attempt."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ifmdm_core.errors import BadInput, Conflict, NotFound, Unavailable
from ifmdm_core.media.audio import read_audio
from ifmdm_core.media.fragments import finished_mp4
from ifmdm_core.portrait import open_portrait
from ifmdm_core.provenance import sha256_of, sha256_of_file
from jobs.rendering.bundles import LocalBundles
from jobs.rendering.contract import Task, spent
from jobs.rendering.metrics import AttemptMetrics
from jobs.rendering.renderer import FlowRenderer
from serve.config import ServeConfig
from serve.flow import Chunk, FlowRequest, render
from serve.identities import IdentityStore
from serve.messages import Stages
from serve.verify import verify
from tests.jobs.rendering.places import FAST, Place, Reports, WatchedBundles, frames_of, recording

TOTAL = 100


async def served(stages: Stages, request: FlowRequest) -> list[Chunk]:
    return [chunk async for chunk in render(stages, request)]


def test_the_file_is_what_the_flow_gives_signed(
    renderer: FlowRenderer,
    config: ServeConfig,
    either_place: Place,
    portrait: Path,
    photo: bytes,
    speech: bytes,
    tmp_path: Path,
) -> None:
    place, reports = either_place, Reports()
    controls = FAST.model_copy(update={"face": "auto", "seed": 7})
    task = place.task(photo, speech, controls, consent="release form 17")
    with renderer.render(task, reports) as rendered:
        frames, verdict = frames_of(rendered.path), verify(rendered.path)
        assert rendered.sha256 == sha256_of_file(rendered.path)
        assert rendered.size == rendered.path.stat().st_size
    assert not rendered.path.exists()
    assert (rendered.frames, rendered.fps, rendered.frames_decoded) == (TOTAL, 25, TOTAL)
    assert not rendered.resumed_motion
    assert all(rendered.busy_s[stage] > 0 for stage in ("speech", "motion", "decoder"))

    async def expected() -> list[Chunk]:
        async with LocalBundles(config).lease(task.bundle_uri, task.bundle_sha256) as stages:
            identity = IdentityStore(config.root).put(
                "acme", open_portrait(portrait, controls, stages.facts.size)
            )
            return await served(stages, FlowRequest(identity, read_audio(speech), controls))

    chunks = asyncio.run(expected())
    finished_mp4([chunk.gop for chunk in chunks], read_audio(speech), 25, {}, tmp_path / "plain.mp4")
    assert np.array_equal(frames, frames_of(tmp_path / "plain.mp4"))

    assert verdict.good
    assert verdict.record == verdict.metadata
    record = verdict.record
    assert record is not None
    assert (record["model"], record["model_sha256"]) == ("tiny", place.digest)
    assert (record["inputs"]["audio"], record["consent"]) == (sha256_of(speech), "release form 17")
    assert record["controls"]["seed"] == 7


def test_reports_begin_before_anything_is_read_and_count_to_the_end(
    renderer: FlowRenderer, place: Place, photo: bytes, speech: bytes
) -> None:
    reports = Reports()
    with renderer.render(place.task(photo, speech), reports):
        pass
    assert reports.told[0] == (0, 0)
    assert (0, TOTAL) in reports.told
    assert reports.told[-1] == (TOTAL, TOTAL)
    done = [done for done, _ in reports.told]
    assert done == sorted(done)
    assert {*range(0, TOTAL, 8), TOTAL} <= set(done), "after every chunk"


def test_what_happened_and_what_it_cost_is_kept(
    renderer: FlowRenderer, either_place: Place, photo: bytes, speech: bytes
) -> None:
    place = either_place
    task = place.task(photo, speech)
    with renderer.render(task, Reports()) as rendered:
        pass
    events = place.events(task)
    for one in ("began", "downloaded", "opened", "first chunk", "motion known", "motion stored", "decoded"):
        assert one in events
    assert events[-2:] == ["muxed", "signed"]
    metrics = AttemptMetrics.model_validate(place.metrics(task))
    assert (metrics.outcome, metrics.frames, metrics.frames_decoded) == ("rendered", TOTAL, TOTAL)
    assert list(metrics.phases) == ["download", "model", "open", "frames", "mux", "sign"]
    assert metrics.busy_s == pytest.approx(rendered.busy_s)
    assert {name: cost.calls for name, cost in metrics.stages.items()} == {
        "speech": 1, "motion": 3, "decoder": 1 + 13
    }  # fmt: skip
    assert metrics.stages["decoder"].batch == 1
    assert 0 < metrics.first_chunk_s < metrics.seconds  # type: ignore[operator]
    assert metrics.realtime == pytest.approx(TOTAL / 25 / metrics.seconds)


def test_a_store_that_takes_no_log_does_not_cost_the_render(
    renderer: FlowRenderer, place: Place, photo: bytes, speech: bytes
) -> None:
    class ReadOnly:
        def __init__(self) -> None:
            self.refused: list[str] = []

        def put(self, key: str, data: bytes) -> None:
            self.refused.append(key.rpartition("/")[2])
            raise Unavailable("the store is away")

        def get(self, key: str) -> bytes:
            raise Unavailable("the store is away")

    store: Any = ReadOnly()
    task = replace(place.task(photo, speech), storage=store, earlier=("attempts/acme/x/0",))
    with renderer.render(task, Reports()) as rendered:
        assert len(frames_of(rendered.path)) == TOTAL
    assert store.refused == [f"motion-{place.digest[:8]}.arrow", "log.jsonl", "metrics.json"]


def test_controls_beyond_the_limits_are_refused_before_anything_is_read(
    renderer: FlowRenderer, bundles: WatchedBundles, place: Place, photo: bytes, speech: bytes
) -> None:
    task = place.task(photo, speech, FAST.model_copy(update={"steps": 51}))
    with pytest.raises(BadInput, match="steps is 51") as caught, renderer.render(task, Reports()):
        pass
    assert caught.value.field == "controls.steps"
    assert place.events(task) == ["began", "error"]


def test_a_bundle_that_is_not_the_one_or_nowhere(
    renderer: FlowRenderer, place: Place, photo: bytes, speech: bytes
) -> None:
    for uri, error in ((str(place.bundle), Conflict), (f"{place.bundle}-gone", NotFound)):
        task = place.task(photo, speech, bundle_uri=uri, bundle_sha256="0" * 64)
        with pytest.raises(error, match=re.escape(uri)), renderer.render(task, Reports()):
            pass
        assert place.log(task)[-1]["error"] == error.__name__


def test_an_error_in_a_stage_comes_out_and_tells_what_it_cost(
    renderer: FlowRenderer, bundles: WatchedBundles, place: Place, photo: bytes, speech: bytes
) -> None:
    async def broken(name: str) -> None:
        if name == "decode":
            raise Unavailable("the decoder is away", fix="wait")

    bundles.gate = broken
    task = place.task(photo, speech)
    with pytest.raises(Unavailable, match="the decoder is away") as caught, renderer.render(task, Reports()):
        pass
    assert spent(caught.value)["speech"] > 0
    assert place.log(task)[-1] | {"time": ""} == {
        "time": "", "event": "error", "error": "Unavailable", "what": "the decoder is away", "fix": "wait", "field": "",
    }  # fmt: skip
    metrics = place.metrics(task)
    assert (metrics["outcome"], metrics["frames"], metrics["frames_decoded"]) == ("Unavailable", TOTAL, 0)
    assert bundles.leases == bundles.under_way == 0


def test_a_fault_of_ours_is_logged_with_its_place(
    renderer: FlowRenderer, place: Place, photo: bytes, speech: bytes
) -> None:
    task = place.task(photo, speech)
    reports = Reports(lambda done, total: done > 0, ZeroDivisionError("oh"))
    with pytest.raises(ZeroDivisionError), renderer.render(task, reports):
        pass
    line = place.log(task)[-1]
    assert (line["error"], line["what"]) == ("ZeroDivisionError", "oh")
    assert "places.py" in line["at"][0]


def test_several_at_once_do_not_disturb_each_other(
    renderer: FlowRenderer, place: Place, photo: bytes
) -> None:
    def one(seed: int) -> Task:
        task = place.task(photo, b"-")
        portrait = place.source(f"in/{seed}.jpg", photo)
        return replace(task, portrait=portrait, audio=place.source(f"in/{seed}.wav", recording(1.0, seed)))

    def rendered(task: Task) -> np.ndarray:
        with renderer.render(task, Reports()) as done:
            return frames_of(done.path)

    tasks = [one(seed) for seed in (1, 2, 3)]
    alone = [rendered(task) for task in tasks]
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(rendered, tasks))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    assert not np.array_equal(alone[0], alone[1])
