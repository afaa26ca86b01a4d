"""Models are switched under load without a failed or mixed render; a bad bundle never takes traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ifmdm_core.bundle import load_bundle, save_bundle
from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput, Conflict, NotFound
from ifmdm_core.storage import open_storage
from ifmdm_core.weights import read_weights
from serve.application import name_of
from serve.config import Scaling, ServeConfig
from serve.flow import FlowRequest
from serve.rollout import retire_old, roll_out, start
from serve.routes import Routes, read_route
from tests.serve.conftest import Service
from tests.serve.rendering import identity, motion_of, rendered, sound

CONTROLS = RenderControls(steps=2, seed=3)


@pytest.fixture(autouse=True)
def _alone(service: Service) -> None:
    """What other tests switched away is gone; a gateway that they killed holds it for a minute."""
    asyncio.run(retire_old(service.config))


def _lean(service: Service) -> ServeConfig:
    """One replica of each stage is enough for a model that only comes and goes."""
    one = service.config.decoder.model_copy(update={"scaling": Scaling()})
    return service.config.model_copy(update={"decoder": one})


def _deployed() -> set[str]:
    from ray import serve

    return {name for name in serve.status().applications if name.startswith("model-")}


def _digest(service: Service) -> str:
    route = read_route(open_storage(service.config.root))
    assert route is not None
    return route.sha256


def _rebuilt(bundle: Path, folder: Path, **changes: object) -> Path:
    """The same weights under another record."""
    given = {"speech": bundle / "speech", "name": "bad", **changes}
    save_bundle(
        folder,
        autoencoder=bundle / "autoencoder.safetensors",
        motion=given.pop("motion", bundle / "motion.safetensors"),
        **given,  # type: ignore[arg-type]
    )
    return folder


def _unstartable(bundle: Path, folder: Path) -> Path:
    return _rebuilt(bundle, folder, layers=(99,))


def _not_finite(bundle: Path, folder: Path) -> Path:
    """A generator that learned to say NaN."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    broken = folder.with_name(folder.name + "-motion.safetensors")
    tensors, _, _ = read_weights(bundle / "motion.safetensors")
    with safe_open(bundle / "motion.safetensors", "pt") as file:
        metadata = file.metadata()
    floats = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
    tensors[floats[-1]] = tensors[floats[-1]] * float("nan")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, broken, metadata)
    return _rebuilt(bundle, folder, motion=broken)


def _damaged(bundle: Path, folder: Path) -> Path:
    _rebuilt(bundle, folder)  # one that no cache has
    weights = folder / "motion.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    return folder


@pytest.mark.parametrize(
    ("spoil", "error", "named"),
    [
        (_damaged, Conflict, "motion.safetensors has sha256"),
        (_unstartable, BadInput, r"speech stage does not start: .*layers \[99\]"),
        (_not_finite, BadInput, "motion is not finite"),
    ],
)
def test_a_bad_bundle_is_refused_and_what_was_served_goes_on(
    service: Service,
    tiny_bundle: Path,
    portrait: Path,
    tmp_path: Path,
    spoil: Callable[[Path, Path], Path],
    error: type[Exception],
    named: str,
) -> None:
    before = _digest(service)
    bad = spoil(tiny_bundle, tmp_path / "bad")
    with pytest.raises(error, match=named):
        asyncio.run(roll_out(_lean(service), str(bad)))
    assert _digest(service) == before
    assert _deployed() == {name_of(before)}
    ref = identity(service.config.root, portrait)

    async def still() -> int:
        async with Routes(service.config.root) as routes, routes.lease() as stages:
            return len(motion_of(await rendered(stages, FlowRequest(ref, sound(1), CONTROLS))))

    assert asyncio.run(still()) == 25


def test_another_digest_than_expected_is_refused(service: Service, tiny_bundle: Path) -> None:
    with pytest.raises(Conflict, match="expected 0000"):
        asyncio.run(roll_out(service.config, str(tiny_bundle), "0" * 64))


def test_switching_under_load_fails_and_mixes_no_render(
    service: Service, make_bundle: Callable[..., Path], tiny_bundle: Path, portrait: Path, tmp_path: Path
) -> None:
    other = make_bundle(tmp_path / "other", seed=1)
    old, new = _digest(service), load_bundle(other).digest
    ref = identity(service.config.root, portrait)
    request = FlowRequest(ref, sound(5), CONTROLS)
    seen: list[tuple[str, np.ndarray]] = []

    async def client(routes: Routes, until: asyncio.Event) -> None:
        while not until.is_set():
            async with routes.lease() as stages:
                motion = motion_of(await rendered(stages, request))
            seen.append((stages.facts.digest, motion))

    async def main() -> None:
        async with Routes(service.config.root) as routes:
            until = asyncio.Event()
            async with routes.lease() as held, asyncio.TaskGroup() as group:
                clients = [group.create_task(client(routes, until)) for _ in range(2)]
                await roll_out(_lean(service), str(other))
                while not any(digest == new for digest, _ in seen):
                    await asyncio.sleep(0.1)
                    assert not any(task.done() for task in clients)
                until.set()
                # A render that began with the old model still has it, however many were switched.
                retiring = asyncio.create_task(retire_old(service.config))
                await asyncio.sleep(3)
                assert _deployed() == {name_of(old), name_of(new)}
                assert held.facts.digest == old
                seen.append((old, motion_of(await rendered(held, request))))
            await asyncio.wait_for(retiring, 300)
            assert _deployed() == {name_of(new)}
            with pytest.raises(NotFound, match="no model 'another'"):
                async with routes.lease("another"):
                    pass

    try:
        asyncio.run(asyncio.wait_for(main(), 600))
        by_model = {digest: [m for d, m in seen if d == digest] for digest in (old, new)}
        for motions in by_model.values():
            assert motions
            for motion in motions[1:]:
                np.testing.assert_allclose(motion, motions[0], atol=1e-4)
        assert np.abs(by_model[old][0] - by_model[new][0]).max() > 0.01
        # What was switched is what a start with the same configuration serves again.
        assert asyncio.run(start(service.config, service.config.model)).sha256 == new
    finally:
        asyncio.run(roll_out(service.config, str(tiny_bundle)))
        asyncio.run(retire_old(service.config))
    assert _deployed() == {name_of(old)}
