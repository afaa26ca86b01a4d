"""What is tried again, how long it is waited, and that the cause is shown."""

from __future__ import annotations

import logging

import pytest

from ifmdm_core.errors import BadInput, DiskFull, Forbidden, IfmdmError, NotFound, Unavailable
from ifmdm_core.storage import open_storage
from pipelines.retry import MAX_WAIT_S, with_retries
from tests.fault_proxy import Answer, FaultProxy


class Refusing:
    """Raises the given errors one after the other, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def test_it_goes_on_after_short_failures_and_shows_each_cause() -> None:
    call = Refusing(Unavailable("the store is silent"), Unavailable("it is busy"))
    causes: list[str] = []
    waits: list[float] = []
    assert with_retries(call, "upload", on_retry=causes.append, sleep=waits.append) == "answer"
    assert causes == ["the store is silent", "it is busy"]
    assert len(waits) == 2


def test_the_last_error_is_raised_as_it_was() -> None:
    call = Refusing(*(Unavailable(f"number {k}", retry_after=0.0) for k in range(9)))
    with pytest.raises(Unavailable, match="number 3"):
        with_retries(call, "upload", attempts=4, sleep=lambda _: None)
    assert call.calls == 4


@pytest.mark.parametrize(
    "error", [DiskFull("d"), BadInput("b"), NotFound("n"), Forbidden("f"), IfmdmError("i"), ValueError("v")]
)
def test_what_another_try_cannot_mend_is_raised_at_once(error: Exception) -> None:
    call = Refusing(error)
    with pytest.raises(type(error)):
        with_retries(call, "upload", sleep=lambda _: None)
    assert call.calls == 1


def test_waits_grow_differ_and_respect_what_the_store_asks() -> None:
    def waits(retry_after: float) -> list[float]:
        slept: list[float] = []
        call = Refusing(*(Unavailable("x", retry_after=retry_after) for _ in range(11)))
        with_retries(call, "upload", attempts=12, sleep=slept.append)
        return slept

    many = [waits(0.0) for _ in range(20)]
    assert all(wait <= min(MAX_WAIT_S, 0.5 * 2**n) for run in many for n, wait in enumerate(run))
    assert max(run[-1] for run in many) > 4 * max(run[0] for run in many)
    assert len({run[3] for run in many}) == 20, "no two wait alike"
    assert all(wait >= 40.0 for wait in waits(40.0))


def test_without_a_callback_the_log_has_the_cause(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        with_retries(Refusing(Unavailable("silent")), "upload clips/7", sleep=lambda _: None)
    assert "upload clips/7: try 2 of 6" in caplog.text
    assert "silent" in caplog.text


def test_a_throttling_store_is_outlasted(
    flaky_s3: FaultProxy, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = open_storage(f"s3://renders/{tmp_path_factory.mktemp('retry').name}", flaky_s3.config)
    store.put("x", b"1")
    flaky_s3.add(Answer(503), times=7)  # more than the client's own five tries
    causes: list[str] = []
    assert with_retries(lambda: store.get("x"), "get", on_retry=causes.append, sleep=lambda _: None) == b"1"
    assert "503 (SlowDown)" in causes[0]
