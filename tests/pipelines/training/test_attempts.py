"""One attempt at a time, and what it leaves for the next."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput, Busy
from ifmdm_core.training.loop import Diverged
from pipelines.training.attempts import EXPIRES_S, Attempt, Repeating
from pipelines.training.run import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.at(str(tmp_path / "run"))


def test_a_run_that_is_being_trained_is_refused_until_its_attempt_ends(run: RunFolder) -> None:
    first = Attempt.claim(run)
    with pytest.raises(Busy, match=rf"is being trained by .*/{os.getpid()}/"):
        Attempt.claim(run)
    first.renew(ended="stopped")
    assert Attempt.claim(run).number == 2
    assert first.ended() == "stopped"


def test_a_lease_that_nobody_renewed_is_no_more(run: RunFolder, tmp_path: Path) -> None:
    first = Attempt.claim(run)
    old = time.time() - EXPIRES_S - 5
    os.utime(tmp_path / "run" / first.key("lease.json"), (old, old))
    second = Attempt.claim(run)
    assert second.number == 2
    assert first.asked_to_stop()  # the dead one, should it come back
    assert not second.asked_to_stop()


def test_force_takes_over_from_a_living_attempt(run: RunFolder) -> None:
    first = Attempt.claim(run)
    second = Attempt.claim(run, force=True)
    assert (first.is_last(), second.is_last()) == (False, True)


def test_of_many_at_once_one_wins(run: RunFolder) -> None:
    won, refused = [], []

    def claim() -> None:
        try:
            won.append(Attempt.claim(run).number)
        except Busy:
            refused.append(1)

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (won, len(refused)) == ([1], 7)


def test_an_error_that_would_come_again_is_kept_with_its_class(run: RunFolder) -> None:
    attempt = Attempt.claim(run)
    assert attempt.fault() is None
    attempt.give_up(Diverged("loss is nan at step 3, on clips a, b", fix="look at them"))
    found = attempt.fault()
    assert isinstance(found, Diverged)
    assert str(found) == "loss is nan at step 3, on clips a, b; look at them"
    attempt.give_up(BadInput("clip c is damaged"))
    assert isinstance(attempt.fault(), BadInput)


def test_a_wish_to_stop_is_heard(run: RunFolder) -> None:
    attempt = Attempt.claim(run)
    assert not attempt.asked_to_stop()
    attempt.ask_to_stop()
    assert attempt.asked_to_stop()


def test_repeating_goes_on_after_a_busy_store() -> None:
    calls = threading.Semaphore(0)

    def call() -> None:
        calls.release()
        raise Busy("not now")

    with Repeating(call, 0.01):
        assert calls.acquire(timeout=10)
        assert calls.acquire(timeout=10)
