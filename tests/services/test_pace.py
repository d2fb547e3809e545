"""Bulk leaves for a partner no faster than the policy allows, whatever else leaves at the time."""

import asyncio
from pathlib import Path

import pytest

from services.engine.pace import Pace
from tests.services import house, toy
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


def test_daemons_send_bulk_at_the_rate_of_their_policy_and_control_messages_at_once(tmp_path: Path):
    published: list[tuple[float, str, int]] = []

    def observe(key: str, body: bytes) -> None:
        if not key.endswith((".receipt", ".receipt.request", ".receipt.held")):
            published.append((asyncio.get_running_loop().time(), key, len(body)))

    async def story() -> None:
        settings = {"policy": {"partner": {"bank": {"max_rate": 2000}}}}
        place = house.Town(tmp_path, fields={"surroundings": house.on_virtual_time()}, observer=observe)
        async with (
            house.running(place.daemon("shop", settings=settings)) as shop,
            house.running(place.daemon("bank")) as bank,
        ):
            await shop.submit("job-1", "bank", contract=toy.contract(chunks=20, size=1000))
            for daemon in (shop, bank):
                assert (await house.ended(daemon, "job-1")).outcome == "done"

    house.run(story)
    slow = [(at, size) for at, key, size in published if key.startswith("from.shop.") and ".bulk." in key]
    quick = [at for at, key, _ in published if key.startswith("from.bank.") and ".bulk." in key]
    assert len(slow) == len(quick) == 20
    size = sum(size for _, size in slow)
    # One second's worth was saved up, and the last message leaves as soon as there is room for its first byte.
    assert slow[-1][0] - slow[0][0] == pytest.approx((size - slow[-1][1]) / 2000 - 1.0, abs=0.1)
    # The other party has no rate: it answers each chunk when it comes.
    assert all(answered - asked < 0.5 for (asked, _), answered in zip(slow, quick, strict=True))
    assert next(at for at, key, _ in published if ".control." in key) < 0.1
