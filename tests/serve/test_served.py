"""Stages on Serve give what the networks in this process give, and lose no render to a lost replica."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.media.gop import encode_gop
from ifmdm_core.storage import open_storage
from ifmdm_core.talking_head import TalkingHead
from serve.calls import STAGES, Calls, ServeStages
from serve.flow import Chunk, FlowRequest
from serve.messages import IdentityRef
from serve.routes import read_route
from tests.serve.conftest import Service
from tests.serve.rendering import WatchedStages, identity, motion_of, pictures, pictures_of, rendered, sound
from tests.serve.replicas import kill, replicas, running, until

CONTROLS = RenderControls(steps=4, seed=5)


@pytest.fixture
def lost() -> list[str]:
    """Stages whose calls were lost."""
    return []


@pytest.fixture
def stages(service: Service, lost: list[str]) -> WatchedStages:
    route = read_route(open_storage(service.config.root))
    assert route is not None
    calls = Calls(route.application, lambda stage, error: lost.append(stage))
    return WatchedStages(ServeStages(calls, route.facts))


def _application(service: Service) -> str:
    route = read_route(open_storage(service.config.root))
    assert route is not None
    return route.application


def test_served_and_in_process_renders_agree(
    service: Service, stages: WatchedStages, portrait: Path, tiny_bundle: Path
) -> None:
    # Over one window of speech (10 s), several of motion, a last chunk that is not full.
    audio = sound(10.7)
    ref = identity(service.config.root, portrait)
    chunks = asyncio.run(rendered(stages, FlowRequest(ref, audio, CONTROLS)))
    head = TalkingHead.load(tiny_bundle, "cpu")
    portrait_ = head.open_portrait(portrait, CONTROLS)
    _, hint = head.identity(portrait_)
    motion = np.concatenate(
        [
            part.numpy()
            for part in head.motion(head.speech(audio.samples), hint, CONTROLS, audio.num_frames(25))
        ]
    )
    assert [chunk.frames for chunk in chunks] == [5] * 53 + [3]
    np.testing.assert_allclose(motion_of(chunks), motion, atol=1e-4)
    frames = np.concatenate(list(head.render(portrait, audio, CONTROLS).chunks()))
    served = pictures_of(chunks)
    assert served.shape == frames.shape
    crf = service.config.decoder.crf
    for first in (0, 100, 265):  # what H.264 makes of the same frames
        reference = pictures(encode_gop(frames[first : first + 5], 25, crf))
        assert np.abs(served[first : first + 5].astype(int) - reference).mean() < 0.5
    assert {stage for stage, _ in stages.replies} == set(STAGES)
    assert [reply.hit for stage, reply in stages.replies if stage == "decoder"].count(False) <= 1


def test_two_renders_at_once_are_what_they_are_alone(
    service: Service, stages: WatchedStages, portrait: Path
) -> None:
    ref = identity(service.config.root, portrait)
    requests = [FlowRequest(ref, sound(4, seed), CONTROLS) for seed in range(4)]

    async def together() -> list[np.ndarray]:
        return [motion_of(c) for c in await asyncio.gather(*(rendered(stages, r) for r in requests))]

    alone = [motion_of(asyncio.run(rendered(stages, request))) for request in requests]
    for a, b in zip(asyncio.run(together()), alone, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert max(reply.batch for _, reply in stages.replies) > 1


def test_what_a_stage_raises_comes_through_as_it_was(
    service: Service, stages: WatchedStages, lost: list[str]
) -> None:
    with pytest.raises(NotFound) as missing:
        asyncio.run(stages.identify(IdentityRef("acme", "0" * 64)))
    assert type(missing.value) is NotFound
    assert missing.value.fix == "register it again"
    with pytest.raises(BadInput, match="samples"):
        asyncio.run(stages.encode(np.zeros(0, np.float32)))
    assert lost == []


@pytest.fixture(scope="module")
def undisturbed(service: Service, portrait: Path) -> tuple[FlowRequest, list[Chunk]]:
    """A render of 13 s (two windows of speech, eight of motion) and what it gives when nothing happens."""
    request = FlowRequest(identity(service.config.root, portrait), sound(13, 1), CONTROLS)
    route = read_route(open_storage(service.config.root))
    assert route is not None
    return request, asyncio.run(rendered(ServeStages(Calls(route.application), route.facts), request))


@pytest.mark.parametrize("stage", STAGES)
def test_a_replica_killed_in_the_middle_costs_no_frame(
    service: Service,
    stages: WatchedStages,
    undisturbed: tuple[FlowRequest, list[Chunk]],
    portrait: Path,
    lost: list[str],
    stage: str,
) -> None:
    application = _application(service)
    request, expected = undisturbed
    other = identity(service.config.root, portrait, face="none")
    beside = FlowRequest(other, sound(4, 2), CONTROLS)

    struck: list[str] = []

    def strike(called: str) -> None:
        """Kills the replica that answered before, in the stage's third call (of speech there are two)."""
        answered = [name for name, _ in stages.replies].count(stage)
        if called == stage and not struck and answered >= (1 if stage == "speech" else 2):
            struck.append(stages.last(stage))
            kill(application, stage, struck[0])

    async def main() -> list[list[Chunk]]:
        quiet = ServeStages(Calls(application), stages.facts)
        stages.during = strike
        return await asyncio.gather(rendered(stages, request), rendered(quiet, beside))

    disturbed, untouched = asyncio.run(asyncio.wait_for(main(), 300))
    np.testing.assert_allclose(motion_of(disturbed), motion_of(expected), atol=1e-4)
    assert [c.frames for c in disturbed] == [c.frames for c in expected]
    assert pictures_of(disturbed).shape == pictures_of(expected).shape
    assert sum(c.frames for c in untouched) == 100
    assert set(lost) <= {stage}
    _recovers(application, stage, struck[0], getattr(service.config, stage).scaling.least)
    assert sum(c.frames for c in asyncio.run(rendered(stages, beside))) == 100


def _recovers(application: str, stage: str, dead: str, floor: int) -> None:
    until(
        lambda: dead not in replicas(application, stage) and running(application, stage) >= floor,
        f"{stage} has {floor} other replicas",
    )


def test_the_replica_that_holds_the_portrait_is_killed(
    service: Service, stages: WatchedStages, portrait: Path
) -> None:
    application = _application(service)
    ref = identity(service.config.root, portrait, face=(100, 0, 250, 250))
    until(lambda: running(application, "decoder") >= 2, "two decoders")

    async def main() -> str:
        first = await stages.identify(ref)
        assert (await stages.identify(ref)).replica == first.replica  # the same one as long as it lives
        assert stages.replies[-1][1].hit is True
        holder = ""

        async def strike(number: int) -> None:
            nonlocal holder
            if number == 3:
                holder = stages.last("decoder")
                kill(application, "decoder", holder)

        chunks = await rendered(stages, FlowRequest(ref, sound(6), CONTROLS), strike)
        assert sum(chunk.frames for chunk in chunks) == 150
        return holder

    holder = asyncio.run(asyncio.wait_for(main(), 300))
    assert stages.last("decoder") != holder
    _recovers(application, "decoder", holder, 2)
