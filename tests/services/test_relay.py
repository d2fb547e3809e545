"""The relay: what it sends, what it waits for, and what it sends again."""

import asyncio
import itertools
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from sqlalchemy import func, select

from broker.embedded import EmbeddedBroker, EmbeddedTransport, Faults
from messages import schemas, unsequenced
from messages.identity import Identity
from messages.keys import parse_routing_key
from services.daemon.daemon import Daemon
from services.store.journal_schema import outbox
from services.store.limits import BULK_WINDOW_BYTES, CREDIT_WINDOW
from tests.services import house, toy
from tests.services.stranger import Stranger

JOB = "job-1"
ACCEPT = schemas.JobAccept(contract_digest=bytes(32), data_digest=bytes(32), schema_digest=bytes(32), rows=1, columns=1)


@asynccontextmanager
async def shop_and_stranger(town: house.Town, **fields):
    """A business's daemon, and somebody with the provider's keys who speaks by hand."""
    async with house.running(town.daemon("shop", **fields)) as shop, Stranger(town.broker, "bank") as bank:
        yield shop, bank


async def _unreceipted(daemon: Daemon) -> tuple[int, int]:
    """Bulk messages without a receipt: with a sequence, and waiting for credit."""

    def count(connection):
        bulk = select(func.count()).select_from(outbox).where(outbox.c.bulk.is_(True))
        return connection.scalar(bulk.where(outbox.c.sequence > 0)), connection.scalar(
            bulk.where(outbox.c.sequence == 0)
        )

    return await daemon.journal.read(count)


async def settled(measure):
    """The value of an async function once it has stopped changing."""
    last, same = None, 0
    while same < 10:
        value = await measure()
        same = same + 1 if value == last else 0
        last = value
        await asyncio.sleep(0.02)
    return last


# -- credit --------------------------------------------------------------------------------------------------


def test_bulk_stops_at_the_credit_and_compute_at_one_window(town):
    async def story():
        async with shop_and_stranger(town()) as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract(chunks=60, size=2**20 - 2000))
            await bank.say(JOB, ACCEPT, 1)

            async def bulk_seen():
                sequences = {item.header.sequence for item in bank.heard if item.header.kind == "link.terms"}
                return (await shop.statistics(JOB)).get("tasks_run", 0), len(sequences)

            await house.until(lambda: bank.kinds().count("link.terms") == CREDIT_WINDOW)
            made, published = await settled(bulk_seen)
            assert published == CREDIT_WINDOW
            assert CREDIT_WINDOW <= made <= BULK_WINDOW_BYTES // (2**20 - 2000) + 2
            await bank.say(JOB, unsequenced.Receipt(applied=11, credit=CREDIT_WINDOW), 0)
            made, published = await settled(bulk_seen)
            assert published == CREDIT_WINDOW
            assert made <= 10 + CREDIT_WINDOW + 2
            await bank.say(JOB, unsequenced.Receipt(applied=17, credit=CREDIT_WINDOW + 5), 0)
            _, published = await settled(bulk_seen)
            assert published == CREDIT_WINDOW + 5

    house.run(story)


def test_no_credit_is_taken_that_the_window_does_not_allow(town):
    async def story():
        async with shop_and_stranger(town()) as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract(chunks=60, size=100))
            await bank.say(JOB, ACCEPT, 1)
            await house.until(lambda: bank.kinds().count("link.terms") == CREDIT_WINDOW)
            await bank.say(JOB, unsequenced.Receipt(applied=0, credit=2**40), 0)

            async def waiting():
                return await _unreceipted(shop)

            numbered, unnumbered = await settled(waiting)
            assert (numbered, unnumbered) == (2 * CREDIT_WINDOW, 60 - 2 * CREDIT_WINDOW)

    house.run(story)


def test_a_cancel_waits_for_one_window_of_bulk_and_no_more(town):
    async def story():
        async with shop_and_stranger(town()) as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract(chunks=60, size=100))
            await bank.say(JOB, ACCEPT, 1)
            await house.until(lambda: bank.kinds().count("link.terms") == CREDIT_WINDOW)
            await shop.cancel(JOB, "enough")
            await house.until(lambda: "job.cancel" in bank.kinds())
            cancel = next(item.header for item in bank.heard if item.header.kind == "job.cancel")
            assert cancel.sequence == 1 + CREDIT_WINDOW + 1
            assert await _unreceipted(shop) == (CREDIT_WINDOW, 0)

    house.run(story)


# -- receipts ------------------------------------------------------------------------------------------------


def test_receipts_travel_together(town):
    async def story():
        slow = replace(house.TIMING, receipt_delay=0.5, silence_first=10.0)
        async with town(timing=slow).both() as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract(chunks=16, size=10))
            await shop.wait(JOB)
            received = (await bank.statistics(JOB))["messages_received"]
            assert bank.relay_counts.receipts < received / 2

    house.run(story)


def test_old_receipts_change_nothing(town):
    async def story():
        async with shop_and_stranger(town()) as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract(chunks=3, size=10))
            await bank.say(JOB, ACCEPT, 1)
            await house.until(lambda: bank.kinds().count("link.terms") == 3)
            for receipt in ((4, 19), (2, 16), (0, 0), (4, 19)):
                await bank.say(JOB, unsequenced.Receipt(applied=receipt[0], credit=receipt[1]), 0)

            async def view():
                found = await shop.job(JOB)
                return found.receipted, await _unreceipted(shop)

            assert await settled(view) == (4, (0, 0))

    house.run(story)


def test_a_forged_receipt_frees_nothing(town):
    async def story():
        place = town()
        async with shop_and_stranger(place) as (shop, bank):
            mallory = Stranger(place.broker, "bank", identity=Identity.generate("bank"))
            mallory.transport = EmbeddedTransport(place.broker, "bank", [])
            async with mallory:
                await shop.submit(JOB, "bank", contract=toy.contract())
                await house.until(lambda: "job.propose" in bank.kinds())
                await mallory.say(JOB, unsequenced.Receipt(applied=1, credit=99), 0)

                async def parked():
                    return await shop.parked_codes() == {"bad_signature": 1}

                await house.until(parked)
                assert (await shop.job(JOB)).receipted == 0

    house.run(story)


# -- silence and loss ----------------------------------------------------------------------------------------


def test_silence_makes_it_ask_at_growing_intervals_and_never_send_again(tmp_path):
    async def story():
        times: list[float] = []
        kinds: list[str] = []

        def observe(key: str, body: bytes) -> None:
            kinds.append(parse_routing_key(key).kind)
            times.append(asyncio.get_running_loop().time())

        timing = replace(house.TIMING, silence_first=0.05, silence_last=0.4)
        broker = EmbeddedBroker(("shop", "bank"), observer=observe)
        transport = EmbeddedTransport(broker, "shop", ["bank"])
        config = house.config(tmp_path, "shop", surroundings=house.on_virtual_time(), timing=timing)
        async with house.running(Daemon(config, transport)) as shop:
            await shop.submit(JOB, "bank", contract=toy.contract())
            await house.until(lambda: kinds.count("receipt.request") == 6)
        assert kinds.count("job.propose") == 1
        asked = [time for time, kind in zip(times, kinds, strict=True) if kind == "receipt.request"]
        gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
        assert gaps[0] >= 0.05
        assert gaps[1] > gaps[0]
        assert gaps[2] > gaps[1]
        assert all(gap >= 0.25 for gap in gaps[3:])

    house.run(story)


def test_an_answer_brings_what_is_missing_and_only_that(town):
    async def story():
        async with shop_and_stranger(town()) as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract(chunks=10, size=100))
            await bank.say(JOB, ACCEPT, 1)
            await house.until(lambda: bank.kinds().count("link.terms") == 10)
            await bank.say(JOB, unsequenced.Receipt(applied=3, credit=16), 0)
            await house.until(lambda: "receipt.request" in bank.kinds())
            before = len(bank.heard)
            await bank.say(JOB, unsequenced.Receipt(applied=8, credit=16), 0)
            await house.until(lambda: shop.relay_counts.published_again == 3)
            await house.until(lambda: len([i for i in bank.heard[before:] if i.header.sequence]) == 3)
            again = [item.header.sequence for item in bank.heard[before:] if item.header.sequence]
            assert again == [9, 10, 11]
            first = {item.header.sequence: item for item in bank.heard[:before] if item.header.sequence}
            for item in bank.heard[before:]:
                if item.header.sequence:
                    assert (item.header_bytes, item.body) == (
                        first[item.header.sequence].header_bytes,
                        first[item.header.sequence].body,
                    )

    house.run(story)


def test_an_answer_does_not_bring_again_what_was_published_since_the_question(town):
    async def story():
        async with shop_and_stranger(town()) as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract(chunks=10, size=100))
            await house.until(lambda: "receipt.request" in bank.kinds())
            await bank.say(JOB, ACCEPT, 1)
            await house.until(lambda: bank.kinds().count("link.terms") == 10)
            # The answer was given when the bank had the proposal and nothing else yet.
            before = len(bank.heard)
            await bank.say(JOB, unsequenced.Receipt(applied=1, credit=16), 0)
            await house.until(lambda: "receipt.request" in bank.kinds()[before:])
            assert set(bank.kinds()[before:]) <= {"receipt", "receipt.request", "receipt.held"}
            assert shop.relay_counts.bulk_published_again == 0

    house.run(story)


def test_a_broker_that_loses_everything_it_held_costs_time_and_no_data(tmp_path):
    async def story():
        plan = toy.Plan(chunks=6, size=500)
        town = house.Town(tmp_path, fields={"surroundings": house.on_virtual_time()})
        async with house.running(town.daemon("shop")) as shop:
            await shop.submit(JOB, "bank", contract=toy.contract(chunks=6, size=500))
            await house.until(lambda: town.broker.ready("control.bank.shop") > 0)
        # The broker comes back empty; so do the daemons, on what they had written down.
        town = house.Town(tmp_path, fields={"surroundings": house.on_virtual_time()})
        async with town.both() as (shop, bank):
            ended = await shop.wait(JOB)
            assert await shop.result(JOB, ended.results[0]) == repr(list(toy.expected(plan))).encode()
            assert (await house.ended(bank, JOB)).outcome == "done"

    house.run(story)


def test_lines_that_break_again_and_again_cost_time_and_no_data(town):
    async def story():
        plan = toy.Plan(iterations=3, chunks=4, size=500)
        place = town()

        async def break_lines():
            for number in range(15):
                place.broker.drop("shop" if number % 2 else "bank")
                await asyncio.sleep(0.03)
            place.broker.stop()
            await asyncio.sleep(0.1)
            place.broker.start()

        async with place.both() as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract(iterations=3, chunks=4, size=500))
            await asyncio.gather(break_lines(), shop.wait(JOB), house.ended(bank, JOB))
            ended = await shop.job(JOB)
            assert await shop.result(JOB, ended.results[0]) == repr(list(toy.expected(plan))).encode()

    house.run(story)


def test_a_daemon_starts_before_its_broker_and_waits(town):
    async def story():
        place = town()
        place.broker.stop()
        async with place.both() as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract())
            assert not shop.transport_state.up
            assert (await shop.job(JOB)).status == "running"
            place.broker.start()
            assert (await shop.wait(JOB)).outcome == "done"
            assert (await house.ended(bank, JOB)).outcome == "done"

    house.run(story)


def test_nothing_is_sent_twice_on_a_healthy_line_with_a_busy_partner(town):
    async def story():
        slow = replace(house.TIMING, silence_first=5.0)
        async with town(timing=slow).both() as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract(iterations=1, chunks=30, size=20_000))
            await shop.wait(JOB)
            await house.ended(bank, JOB)
            assert (shop.relay_counts.published_again, bank.relay_counts.published_again) == (0, 0)
            assert "duplicates" not in {**await shop.statistics(JOB), **await bank.statistics(JOB)}

    house.run(story)


def test_damaged_messages_on_disk_freeze_their_job_and_no_other(town, tmp_path):
    async def story():
        place = town()
        async with shop_and_stranger(place) as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract(chunks=3, size=100))
            await bank.say(JOB, ACCEPT, 1)
            await house.until(lambda: bank.kinds().count("link.terms") == 3)
        for path in (tmp_path / "shop" / "blobs" / JOB).glob("make-*"):
            path.write_bytes(bytes(path.stat().st_size))
        async with shop_and_stranger(place) as (shop, bank):
            await bank.say(JOB, unsequenced.Receipt(applied=1, credit=16), 0)
            view = await shop.wait(JOB)
            assert (view.status, view.reason_code) == ("frozen", "blob_damaged")
            await shop.submit("job-2", "bank", contract=toy.contract())
            await house.until(lambda: "job.propose" in bank.kinds())

    house.run(story)


# -- questions -----------------------------------------------------------------------------------------------

PROBE = unsequenced.PeerProbe(contract=b"would you?")


async def _answer(sender: str, probe: unsequenced.PeerProbe) -> unsequenced.PeerAnswer:
    return unsequenced.PeerAnswer(
        software_version="1",
        protocol_version=1,
        logic_version=1,
        backend=sender,
        acceptable=probe.contract == b"would you?",
        reason_code="ok",
        reason="",
        rows=1,
        columns=2,
        free_bytes=3,
    )


def test_a_probe_is_answered_by_the_partner(town):
    async def story():
        async with town(answer_probe=_answer).both() as (shop, _):
            answer = await shop.probe("bank", PROBE, timeout_s=60)
            assert (answer.backend, answer.acceptable) == ("shop", True)
            assert await shop.jobs() == []

    house.run(story)


def test_a_probe_that_cannot_be_answered_harms_nobody(town):
    async def fails(sender: str, probe: unsequenced.PeerProbe) -> unsequenced.PeerAnswer:
        raise ValueError("no")

    async def story():
        async with town(answer_probe=fails).both() as (shop, _):
            with pytest.raises(TimeoutError):
                await shop.probe("bank", PROBE, timeout_s=0.3)
            await shop.submit(JOB, "bank", contract=toy.contract())
            assert (await shop.wait(JOB)).outcome == "done"

    house.run(story)


def test_a_heavily_lossy_broker_is_only_slow(tmp_path):
    async def story():
        town = house.Town(
            tmp_path, faults=Faults(seed=3, loss=0.15, reorder=0.3), fields={"surroundings": house.on_virtual_time()}
        )
        async with town.both() as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract(chunks=3, size=100))
            assert (await shop.wait(JOB)).outcome == "done"
            assert (await house.ended(bank, JOB)).outcome == "done"

    house.run(story)
