"""The same for many things, by several threads."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from ifmdm_core.errors import IfmdmError

Thing = TypeVar("Thing")
Result = TypeVar("Result")


def each_of(
    things: Iterable[tuple[int, Thing]],
    do: Callable[[Thing], Result],
    workers: int,
    on_break: Callable[[], None] = lambda: None,
) -> Generator[tuple[int, Result | IfmdmError], None, None]:
    """`do` of each thing, by so many threads; (number, result or error) in the order in which they are done.

    Reads only a few things per thread ahead. Where whoever iterates stops early, or a thing cannot be read,
    `on_break` is called, what has begun ends, and no more begins.
    """
    pending: dict[Future[Result], int] = {}

    def finished(most: int) -> Iterator[tuple[int, Result | IfmdmError]]:
        while len(pending) > most:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                number = pending.pop(future)
                try:
                    yield number, future.result()
                except IfmdmError as error:
                    yield number, error

    with ThreadPoolExecutor(workers, thread_name_prefix="submit") as pool:
        try:
            for number, thing in things:
                pending[pool.submit(do, thing)] = number
                yield from finished(4 * workers)
            yield from finished(0)
        except BaseException:
            on_break()
            for future in pending:
                future.cancel()
            raise
