"""The interface that gloo is told."""

from __future__ import annotations

import os

import psutil
import pytest

from pipelines.training import rendezvous


def test_an_address_of_this_host_has_its_interface_and_others_have_none() -> None:
    assert rendezvous.interface_of("127.0.0.1") in psutil.net_if_addrs()
    assert rendezvous.interface_of("203.0.113.1") is None


def test_what_an_operator_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(rendezvous.GLOO, "mine")
    rendezvous.name_interface()
    assert os.environ[rendezvous.GLOO] == "mine"
