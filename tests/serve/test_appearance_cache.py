import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.appearance_cache import AppearanceCache


async def _get(cache: AppearanceCache[str, bytes], key: str, size: int) -> bool:
    async def make() -> bytes:
        return bytes(size)

    value, hit = await cache.get(key, make)
    assert len(value) == size
    return hit


def test_the_least_recently_used_goes_first() -> None:
    async def main() -> None:
        cache: AppearanceCache[str, bytes] = AppearanceCache(100, len)
        assert not await _get(cache, "a", 40)
        assert not await _get(cache, "b", 40)
        assert await _get(cache, "a", 40)
        assert not await _get(cache, "c", 40)  # b goes
        assert await _get(cache, "a", 40)
        assert not await _get(cache, "b", 40)
        assert cache.nbytes == 80

    asyncio.run(main())


def test_a_value_larger_than_everything_is_given_out_and_pushes_nothing_out() -> None:
    async def main() -> None:
        cache: AppearanceCache[str, bytes] = AppearanceCache(100, len)
        await _get(cache, "a", 60)
        assert not await _get(cache, "large", 101)
        assert not await _get(cache, "large", 101)
        assert await _get(cache, "a", 60)
        assert cache.nbytes == 60

    asyncio.run(main())


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 60))), st.integers(1, 100))
def test_it_never_holds_more_than_its_capacity_and_counts_what_it_holds(
    uses: list[tuple[str, int]], capacity: int
) -> None:
    sizes: dict[str, int] = {}

    async def main() -> None:
        cache: AppearanceCache[str, bytes] = AppearanceCache(capacity, len)
        for key, size in uses:
            await _get(cache, key, sizes.setdefault(key, size))
            assert cache.nbytes <= capacity
            assert cache.nbytes == sum(len(value) for value in cache._kept.values())

    asyncio.run(main())


def test_a_value_is_made_once_for_all_who_ask_even_if_the_first_gives_up() -> None:
    async def main() -> None:
        cache: AppearanceCache[str, bytes] = AppearanceCache(100, len)
        made, go = 0, asyncio.Event()

        async def make() -> bytes:
            nonlocal made
            made += 1
            await go.wait()
            return b"value"

        asking = [asyncio.create_task(cache.get("a", make)) for _ in range(3)]
        await asyncio.sleep(0)
        asking[0].cancel()
        await asyncio.sleep(0)
        go.set()
        assert await asyncio.gather(*asking[1:]) == [(b"value", False)] * 2
        assert made == 1

    asyncio.run(main())


def test_after_a_failure_the_next_one_tries_again() -> None:
    async def main() -> None:
        cache: AppearanceCache[str, bytes] = AppearanceCache(100, len)

        async def fail() -> bytes:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await cache.get("a", fail)
        assert not await _get(cache, "a", 10)

    asyncio.run(main())
