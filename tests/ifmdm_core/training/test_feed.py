"""Batches made ahead: in order, not too far, ended when nobody wants them; faults reach the loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ifmdm_core.training.feed import Feed
from ifmdm_core.training.task import Share


def shares(last: int = 10**9) -> Iterator[Share]:
    for step in range(last):
        yield Share(step, 1, [(0, step)], [f"clip-{step}"], {"index": step + 1})


def test_batches_come_in_order_with_their_shares() -> None:
    with Feed(shares(), lambda share: share.step * 10) as feed:
        for step in range(20):
            share, batch = feed.next()
            assert (share.step, batch) == (step, 10 * step)


def test_it_works_ahead_but_not_far() -> None:
    made: list[int] = []
    ready = threading.Event()

    def collate(share: Share) -> int:
        made.append(share.step)
        if len(made) == 3:
            ready.set()
        return share.step

    with Feed(shares(), collate, depth=2) as feed:
        assert ready.wait(20)  # two in the queue and one in hand, though nobody has asked
        assert len(made) == 3
        feed.next()
    assert len(made) <= 4
    count = len(made)
    assert not any(t.name.startswith("Feed") for t in threading.enumerate())
    assert len(made) == count, "it went on after its end"


@pytest.mark.parametrize("where", ["reading", "collating"])
def test_a_fault_is_raised_where_the_batch_was_wanted(where: str) -> None:
    def read() -> Iterator[Share]:
        yield from shares(2)
        if where == "reading":
            raise OSError("disk gone")
        yield next(shares())

    def collate(share: Share) -> int:
        collated.append(share.step)
        if where == "collating" and len(collated) == 3:
            raise OSError("disk gone")
        return share.step

    collated: list[int] = []
    with Feed(read(), collate) as feed:
        assert [feed.next()[1] for _ in range(2)] == [0, 1]
        with pytest.raises(OSError, match="disk gone"):
            feed.next()


def test_a_source_that_ends_is_a_fault() -> None:
    with Feed(shares(1), lambda share: 0) as feed:
        feed.next()
        with pytest.raises(RuntimeError, match="must go on without end"):
            feed.next()


def test_leaving_ends_the_thread() -> None:
    before = threading.active_count()
    with Feed(shares(), lambda share: 0) as feed:
        feed.next()
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
