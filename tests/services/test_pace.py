"""Bulk leaves for a partner no faster than the policy allows, whatever else leaves at the time."""

import asyncio

import pytest

from services.engine.pace import Pace
from tests.simulation import virtual

RATE = 1000.0
RATES = {"slow": RATE, "fast": 0.0}


def leaving(*sizes: int, partner: str = "slow", after: float = 0.0) -> list[float]:
    """When messages of these sizes leave that all want to at once."""
    pace = Pace(RATES.__getitem__)

    async def story() -> list[float]:
        loop = asyncio.get_running_loop()
        await pace.keep(partner, 1)
        await asyncio.sleep(after)
        begun = loop.time()

        async def one(size: int) -> float:
            await pace.keep(partner, size)
            return loop.time() - begun

        return list(await asyncio.gather(*(one(size) for size in sizes)))

    return virtual.run(story)


def test_what_one_second_allows_leaves_at_once_and_the_rest_at_the_rate():
    assert leaving(*[500] * 6, after=5.0) == pytest.approx([0.0, 0.0, 0.0, 0.5, 1.0, 1.5])


def test_over_a_long_time_the_rate_is_kept():
    times = leaving(*[250] * 400)
    assert times[-1] == pytest.approx(400 * 250 / RATE, abs=1.5)
    assert times == sorted(times)


def test_a_message_larger_than_a_second_leaves_whole_and_those_behind_it_wait_for_it():
    assert leaving(5000, 100, after=5.0) == pytest.approx([0.0, 4.0])


def test_a_pause_saves_up_one_second_and_no_more():
    assert leaving(*[1000] * 3, after=3600.0) == pytest.approx([0.0, 0.0, 1.0])


def test_a_partner_without_a_rate_waits_for_nothing():
    assert leaving(*[10**9] * 5, partner="fast") == [0.0] * 5
