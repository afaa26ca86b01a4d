"""The operator's own check of portraits: what it says counts, and where it fails nothing is let through."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ifmdm_core.config import load_config
from ifmdm_core.consent import Permission
from ifmdm_core.denylist import Denial, DenyList, Entry
from ifmdm_core.errors import BadInput, Forbidden, Unavailable
from ifmdm_core.media.look import look
from ifmdm_core.storage import Storage, open_storage
from serve.config import ServeConfig
from serve.portrait_check import Ask, PortraitCheck

CROP = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(tmp_path)


@pytest.fixture
def hook() -> Iterator[Callable[[Callable[[Ask], str | None]], str]]:
    """Makes a function one that the configuration can name."""
    module = types.ModuleType("operators_own")

    def named(function: Callable[[Ask], str | None]) -> str:
        module.check = function  # type: ignore[attr-defined]
        sys.modules[module.__name__] = module
        return "operators_own:check"

    yield named
    sys.modules.pop(module.__name__, None)


def test_it_is_told_what_there_is_and_its_answer_counts(storage: Storage, hook: Callable[..., str]) -> None:
    asked = []

    def check(ask: Ask) -> str | None:
        asked.append(ask)
        return None if ask.consent == "form 17" else "the register does not know this reference"

    allowed = PortraitCheck(storage, hook(check))
    allowed.face("the portrait", CROP, "acme", Permission("shop", "form 17"), sha256="ab" * 32, job="j")
    assert asked == [Ask("acme", "shop", "j", "form 17", "ab" * 32, look(CROP))]
    with pytest.raises(Forbidden, match="does not know") as error:
        allowed.face("the portrait", CROP, "acme", Permission("shop"))
    assert error.value.field == "consent"


def test_where_it_fails_nothing_is_let_through_for_now(storage: Storage, hook: Callable[..., str]) -> None:
    def check(ask: Ask) -> str | None:
        raise ConnectionError("register.internal:5432 refused; password=x")

    with pytest.raises(Unavailable) as error:
        PortraitCheck(storage, hook(check)).face("the portrait", CROP, "acme", Permission())
    assert "register.internal" not in str(error.value)


def test_the_deny_list_comes_first(storage: Storage, hook: Callable[..., str]) -> None:
    asked: list[Ask] = []
    DenyList(storage).add(Entry("ab" * 32, look(CROP[:, ::-1])), Denial(reason="a court order"))
    check = PortraitCheck(storage, hook(lambda ask: asked.append(ask)))
    with pytest.raises(Forbidden, match="court order"):
        check.face("the portrait", CROP, "acme", Permission())
    with pytest.raises(Forbidden, match="court order"):
        check.file("the portrait", "ab" * 32)
    assert not asked


@pytest.mark.parametrize("path", ["nowhere_at_all:check", "json:nothing", "json:__doc__", "os.path:sep"])
def test_one_that_is_none_is_refused_at_the_start(storage: Storage, path: str) -> None:
    with pytest.raises(BadInput, match="consent_hook"):
        PortraitCheck(storage, path)


@pytest.mark.parametrize("path", ["json", "json:a.b", "json:", ":x", "../x:y", "os;rm:x"])
def test_the_setting_is_a_module_and_a_function(path: str) -> None:
    with pytest.raises(BadInput, match="consent_hook"):
        load_config(ServeConfig, None, ["root=/r", f"consent_hook={path}"])
