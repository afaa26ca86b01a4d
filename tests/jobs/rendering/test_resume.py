"""Motion kept by one attempt and taken over by the next."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from ifmdm_core.controls import RenderControls
from jobs.rendering.contract import Halt, Task
from jobs.rendering.renderer import FlowRenderer
from tests.jobs.rendering.places import FAST, Place, Reports, WatchedBundles, frames_of, recording


def lost_attempt(renderer: FlowRenderer, place: Place, task: Task) -> bytes:
    """An attempt that ends after its last chunk, its motion stored; the bytes of that."""

    def stop(done: int, total: int) -> bool:
        if not done == total > 0:
            return False
        while place.storage.info(place.motion_key(task)) is None:  # known by now, and being written
            time.sleep(0.01)
        return True

    with pytest.raises(Halt), renderer.render(task, Reports(stop, Halt())):
        pass
    return place.storage.get(place.motion_key(task))


@pytest.mark.parametrize("fps", [25, 30])
def test_the_next_attempt_asks_only_the_decoder_and_makes_the_same_frames(
    renderer: FlowRenderer,
    bundles: WatchedBundles,
    either_place: Place,
    photo: bytes,
    speech: bytes,
    fps: int,
) -> None:
    place = either_place
    controls = FAST.model_copy(update={"fps": fps, "seed": 5})
    first = place.task(photo, speech, controls)
    lost_attempt(renderer, place, first)
    with renderer.render(place.again(first, earlier=()), Reports()) as undisturbed:
        expected = frames_of(undisturbed.path)

    bundles.reset()
    second = place.again(first, earlier=(place.folder(99), first.folder))
    reports = Reports()
    with renderer.render(second, reports) as rendered:
        assert np.array_equal(frames_of(rendered.path), expected)
    chunks = -(-4 * fps // 8)
    assert bundles.begun == {"encode": 0, "sample": 0, "identify": 0, "decode": chunks}
    assert rendered.resumed_motion
    assert not undisturbed.resumed_motion
    assert rendered.frames_decoded == 4 * fps
    assert (rendered.busy_s["speech"], rendered.busy_s["motion"]) == (0, 0)
    assert "motion taken over" in place.events(second)
    assert place.metrics(second)["resumed_motion"]


def test_it_can_be_read_by_anybody_and_says_what_it_is(
    renderer: FlowRenderer, place: Place, photo: bytes, speech: bytes
) -> None:
    task = place.task(photo, speech)
    table = pa.ipc.open_file(lost_attempt(renderer, place, task)).read_all()
    assert table.num_rows == 100
    motion = np.array(table["motion"].to_pylist(), np.float32)
    assert motion.shape == (100, 20)
    assert motion.std(0).max() > 1e-3
    assert np.abs(motion).max() <= 1
    metadata = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
    assert metadata["format"] == "ifmdm.render-motion/1"
    assert (metadata["bundle"], metadata["seed"]) == (place.digest, "0")


def require_made_anew(
    renderer: FlowRenderer, bundles: WatchedBundles, place: Place, task: Task, why: str
) -> None:
    bundles.reset()
    with renderer.render(task, Reports()) as rendered:
        pass
    assert not rendered.resumed_motion
    assert bundles.begun["sample"] > 0
    (line,) = [line for line in place.log(task) if line["event"] == "stored motion ignored"]
    assert why in line["error"]


@pytest.mark.parametrize(
    ("controls", "why"),
    [
        (FAST.model_copy(update={"seed": 1}), "seed is 0, wanted is 1"),
        (FAST.model_copy(update={"steps": 3}), "controls"),
        (FAST.model_copy(update={"face": (30, 30, 300, 300)}), "controls"),
    ],
)
def test_motion_of_other_controls_is_not_taken(
    renderer: FlowRenderer,
    bundles: WatchedBundles,
    place: Place,
    photo: bytes,
    speech: bytes,
    controls: RenderControls,
    why: str,
) -> None:
    first = place.task(photo, speech)
    lost_attempt(renderer, place, first)
    require_made_anew(renderer, bundles, place, place.again(first, controls=controls), why)


def test_motion_of_another_recording_or_bundle_is_not_taken(
    renderer: FlowRenderer, bundles: WatchedBundles, place: Place, photo: bytes, speech: bytes
) -> None:
    first = place.task(photo, speech)
    stored = lost_attempt(renderer, place, first)
    other = place.again(first, audio=place.source("in/other.wav", recording(4.0, seed=1)))
    require_made_anew(renderer, bundles, place, other, "audio")

    table = pa.ipc.open_file(stored).read_all()
    metadata = {**table.schema.metadata, b"bundle": place.digest[:8].encode() + b"0" * 56}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema.with_metadata(metadata)) as writer:
        writer.write_table(table.replace_schema_metadata(metadata))
    place.storage.put(place.motion_key(first), sink.getvalue().to_pybytes())
    require_made_anew(
        renderer, bundles, place, replace(place.again(first), earlier=(first.folder,)), "bundle"
    )


@pytest.mark.parametrize("damage", ["empty", "no arrow", "cut", "a bit of the numbers"])
def test_damaged_motion_is_not_taken(
    renderer: FlowRenderer, bundles: WatchedBundles, place: Place, photo: bytes, speech: bytes, damage: str
) -> None:
    first = place.task(photo, speech)
    stored = lost_attempt(renderer, place, first)
    at = len(stored) // 2  # inside the numbers, which are most of it
    damaged = {
        "empty": b"",
        "no arrow": b"x" * 1000,
        "cut": stored[:at],
        "a bit of the numbers": stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :],
    }[damage]
    place.storage.put(place.motion_key(first), damaged)
    require_made_anew(
        renderer, bundles, place, place.again(first), "damaged" if damage == "a bit of the numbers" else ""
    )
