import asyncio
import threading

import pytest

from ifmdm_core.errors import BadInput, IfmdmError
from serve.batches import FAULTS, Batches, Done


class Worker:
    """Notes its batches; holds the first until told to go on."""

    def __init__(self, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        if not held:
            self.go.set()

    def __call__(self, calls: list[int]) -> list[int]:
        self.batches.append(calls)
        assert self.go.wait(30)
        if any(call < 0 for call in calls):
            raise BadInput("negative")
        return [2 * call for call in calls]


def test_calls_that_wait_form_the_next_batch_by_group_and_in_order() -> None:
    worker = Worker(held=True)

    async def main() -> list[Done[int]]:
        batches = Batches(worker, lambda call: call % 2, 3, 0.0)
        first = asyncio.create_task(batches.run(100))
        while not worker.batches:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(batches.run(call)) for call in (1, 2, 3, 4, 5, 6, 8)]
        await asyncio.sleep(0)
        worker.go.set()
        return await asyncio.gather(first, *others)

    done = asyncio.run(main())
    assert [each.value for each in done] == [200, 2, 4, 6, 8, 10, 12, 16]
    assert worker.batches == [[100], [1, 3, 5], [2, 4, 6], [8]]
    assert [each.batch for each in done] == [1, 3, 3, 3, 3, 3, 3, 1]
    assert all(each.waited >= 0 and each.seconds >= 0 for each in done)


def test_an_idle_worker_waits_for_company_until_the_batch_is_full() -> None:
    worker = Worker()

    async def main() -> None:
        batches = Batches(worker, lambda call: 0, 2, 60.0)  # it would wait for a minute
        await asyncio.gather(batches.run(1), batches.run(2))

    asyncio.run(asyncio.wait_for(main(), 30))
    assert worker.batches == [[1, 2]]


def test_a_bad_call_fails_alone() -> None:
    worker = Worker()

    async def main() -> list[object]:
        batches = Batches(worker, lambda call: 0, 3, 60.0)
        return await asyncio.gather(*(batches.run(call) for call in (1, -1, 2)), return_exceptions=True)

    good, bad, also_good = asyncio.run(main())
    assert isinstance(bad, BadInput)
    assert isinstance(good, Done)
    assert (good.value, good.batch) == (2, 1)
    assert isinstance(also_good, Done)
    assert worker.batches == [[1, -1, 2], [1], [-1], [2]]


def test_a_cancelled_call_is_never_worked_on() -> None:
    worker = Worker(held=True)

    async def main() -> None:
        batches = Batches(worker, lambda call: 0, 1, 0.0)
        first = asyncio.create_task(batches.run(1))
        while not worker.batches:
            await asyncio.sleep(0.001)
        given_up = asyncio.create_task(batches.run(2))
        last = asyncio.create_task(batches.run(3))
        await asyncio.sleep(0)
        given_up.cancel()
        worker.go.set()
        await asyncio.gather(first, last)

    asyncio.run(main())
    assert worker.batches == [[1], [3]]


def test_a_replica_whose_own_faults_repeat_says_so_and_bad_input_is_none() -> None:
    def work(calls: list[int]) -> list[int]:
        if calls[0] < 0:
            raise BadInput("negative")
        raise RuntimeError("the device is stuck")

    async def main() -> None:
        batches = Batches(work, lambda call: 0, 1, 0.0)
        for _ in range(FAULTS + 1):
            with pytest.raises(BadInput):
                await batches.run(-1)
        batches.check()
        for _ in range(FAULTS):
            batches.check()
            with pytest.raises(RuntimeError, match="stuck"):
                await batches.run(1)
        with pytest.raises(IfmdmError, match="in a row"):
            batches.check()

    asyncio.run(main())


def test_it_serves_one_event_loop_after_the_other() -> None:
    batches = Batches(Worker(), lambda call: 0, 2, 0.001)
    assert [asyncio.run(batches.run(call)).value for call in (1, 2)] == [2, 4]
