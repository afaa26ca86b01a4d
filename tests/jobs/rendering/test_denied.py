"""A worker renders no portrait that is denied: not the file, not a copy of it, and nothing is spent on it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ifmdm_core import denylist
from ifmdm_core.denylist import Denial, DenyList, Entry
from ifmdm_core.errors import Forbidden
from ifmdm_core.media.look import look
from ifmdm_core.portrait import open_portrait
from ifmdm_core.provenance import sha256_of
from ifmdm_core.storage import open_storage
from jobs.rendering.renderer import FlowRenderer
from serve.config import ServeConfig
from tests.jobs.rendering.places import FAST, Place, Reports, WatchedBundles


def painted(quality: int) -> bytes:
    """One picture, as different bytes."""
    spots = np.random.default_rng(5).integers(0, 255, (6, 6, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(spots).resize((128, 128), Image.Resampling.BICUBIC).save(file, "jpeg", quality=quality)
    return file.getvalue()


@pytest.mark.parametrize("how", ["the file", "a copy"])
def test_a_denied_portrait_is_not_rendered(
    how: str,
    renderer: FlowRenderer,
    config: ServeConfig,
    bundles: WatchedBundles,
    place: Place,
    speech: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(denylist, "FRESH_S", -1.0)
    photo, shown = painted(95), look(open_portrait(painted(95), FAST, 64).crop)
    entry = Entry(sha256_of(photo)) if how == "the file" else Entry("0" * 64, shown)
    denied = DenyList(open_storage(config.root))  # of this renderer; a worker's is its job store's
    denied.add(entry, Denial(reason="she asked us to", contact="privacy@example.com"))
    task = place.task(photo if how == "the file" else painted(60), speech, consent="form 17")
    with pytest.raises(Forbidden, match="she asked us to") as error, renderer.render(task, Reports()):
        pass
    assert error.value.field == "portrait"
    assert str(task.portrait.uri) in error.value.what
    assert bundles.begun == {"encode": 0, "sample": 0, "identify": 0, "decode": 0}
    assert place.log(task)[-1]["error"] == "Forbidden"
    denied.remove(entry)
    if how == "a copy":
        with renderer.render(place.again(task), Reports()) as rendered:
            assert rendered.frames == 100
