"""A job of several parties: each pair has a line of its own, and nobody waits for anybody without need."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import select

from broker.topology import queue_name
from messages import schemas, unsequenced
from messages.seal import OVERHEAD_BYTES
from protocol.effects import Computed
from services.daemon.daemon import Daemon, PartnerUnknown
from services.engine import jobs
from services.engine.jobs import JobView
from services.engine.waiting import Why
from services.store.journal_schema import events, outbox
from services.store.limits import BULK_BODY_BYTES_MAX, CREDIT_WINDOW
from tests.services import house, mesh
from tests.services.stranger import Stranger

JOB = "job-1"
PARTIES = ("shop", "bank", "press", "mill", "farm", "port", "dock", "fair", "pier")
FIELDS: dict[str, Any] = {
    "roles": mesh.ROLES,
    "functions": "tests.services.mesh",
    "parties_of": mesh.parties_of,
    "expiry_of": mesh.expiry_of,
}


@pytest.fixture
def mesh_town(town):
    """A town of so many parties, each with everybody's keys."""
    return lambda count, **fields: town(PARTIES[:count], **FIELDS, **fields)


async def _submit(daemon: Daemon, place: house.Town, **fields: Any) -> mesh.Plan:
    await daemon.submit(JOB, place.parties[1], contract=mesh.contract(*place.parties, **fields))
    return mesh.Plan(parties=tuple(place.parties), **fields)


async def _ends(daemons: dict[str, Daemon]) -> list[JobView]:
    return [await house.ended(daemon, JOB) for daemon in daemons.values()]


async def _line(daemon: Daemon, partner: str) -> Any:
    record = await daemon.journal.read(lambda connection: jobs.load(connection, JOB))
    return record.lines[partner]


async def _computed(daemon: Daemon) -> list[str]:
    """Names of the tasks that were computed, in their order."""

    def unit(connection):
        rows = connection.execute(select(events.c.kind, events.c.event).order_by(events.c.position)).all()
        found = [jobs.decode_event(row.event) for row in rows if row.kind == "computed"]
        return [event.task for event in found if isinstance(event, Computed)]

    return await daemon.journal.read(unit)


@pytest.mark.parametrize("count", [2, 3, 4, 9])
def test_every_party_gets_what_every_other_sent_it_and_nothing_is_left(mesh_town, count):
    async def story():
        place = mesh_town(count)
        async with place.all() as daemons:
            plan = await _submit(daemons["shop"], place, chunks=2)
            for view, daemon in zip(await _ends(daemons), daemons.values(), strict=True):
                assert (view.outcome, view.reason) == ("done", "")
                assert await daemon.result(JOB, view.results[0]) == mesh.expected(plan)
            for daemon in daemons.values():
                await house.until(lambda daemon=daemon: _nothing_waits(daemon))
                assert await daemon.parked_codes() == {}
                for partner in (await daemon.job(JOB)).partners:
                    line = await _line(daemon, partner)
                    assert line.sent == line.receipted > 0
                    assert line.bulk_received == line.bulk_consumed == line.bulk_sent == 4

    house.run(story)


async def _nothing_waits(daemon: Daemon) -> bool:
    return not await daemon.waits()


def test_a_provider_that_is_away_is_named_and_the_others_keep_what_they_have(mesh_town):
    async def story():
        said: Counter[tuple[str, bytes]] = Counter()
        place = mesh_town(4, observer=lambda key, body: said.update([(key, body)]))
        async with place.all("shop", "bank", "press") as daemons:
            plan = await _submit(daemons["shop"], place, iterations=3)
            async with house.running(place.daemon("mill")) as mill:
                await house.until(lambda: _has_applied(mill, "shop", 3))
            for daemon in daemons.values():
                await house.until(lambda daemon=daemon: _waits_only_for(daemon, "mill"))
            done = {name: await _computed(daemon) for name, daemon in daemons.items()}
            published = {name: daemon.relay_counts.published for name, daemon in daemons.items()}
            await asyncio.sleep(20 * house.TIMING.silence_last)
            assert {name: daemon.relay_counts.published for name, daemon in daemons.items()} == published
            async with house.running(place.daemon("mill")) as mill:
                for view in await _ends({**daemons, "mill": mill}):
                    assert view.outcome == "done"
                assert await mill.result(JOB, (await mill.job(JOB)).results[0]) == mesh.expected(plan)
            for name, daemon in daemons.items():
                again = await _computed(daemon)
                assert again[: len(done[name])] == done[name]
                assert len(again) == len(set(again))
            between = {key: times for key, times in said.items() if ".bulk." in key[0] and "mill" not in key[0]}
            assert set(between.values()) == {1}

    house.run(story)


async def _has_applied(daemon: Daemon, partner: str, count: int) -> bool:
    record = await daemon.journal.read(lambda connection: jobs.load(connection, JOB))
    return record is not None and record.lines[partner].applied >= count


async def _waits_only_for(daemon: Daemon, partner: str) -> bool:
    waiting = (await daemon.waits(JOB)).get(JOB)
    return (
        waiting is not None and waiting.waits_for == partner and waiting.why in (Why.PARTNER_SILENT, Why.PARTNER_TURN)
    )


def test_a_full_window_for_one_partner_holds_up_nothing_that_is_for_another(mesh_town):
    """With one window for all of them this job would stand still for ever: the chunks for mill are made first, mill
    takes none before press has had its own, and those would never be made."""

    async def story():
        place = mesh_town(4)
        async with place.all() as daemons:
            plan = await _submit(
                daemons["shop"],
                place,
                iterations=1,
                chunks=2 * CREDIT_WINDOW + 2,
                size=BULK_BODY_BYTES_MAX - OVERHEAD_BYTES,
                chained=True,
            )
            views = await _ends(daemons)
            assert {view.outcome for view in views} == {"done"}
            assert await daemons["mill"].result(JOB, views[3].results[0]) == mesh.expected(plan)

    house.run(story)


@pytest.mark.parametrize("who", ["shop", "bank", "press"])
def test_a_cancel_by_one_party_ends_the_job_of_all(mesh_town, who):
    async def story():
        place = mesh_town(3)
        async with place.all() as daemons:
            await _submit(daemons["shop"], place, iterations=1000)
            await house.until(lambda: _has_applied(daemons["press"], "bank", 3))
            await daemons[who].cancel(JOB, "enough")
            assert {view.outcome for view in await _ends(daemons)} == {"cancelled"}
            for daemon in daemons.values():
                await house.until(lambda daemon=daemon: _nothing_waits(daemon))

    house.run(story)


@pytest.mark.parametrize("who", ["shop", "bank", "press"])
def test_a_party_that_fails_tells_all_others(mesh_town, who):
    async def story():
        place = mesh_town(3)
        async with place.all() as daemons:
            await _submit(daemons["shop"], place, trouble="refuse", at=who)
            ends = {(view.outcome, view.reason_code) for view in await _ends(daemons)}
            assert ends == {("failed", "too_odd")}

    house.run(story)


@pytest.mark.parametrize("who", ["shop", "bank", "press"])
def test_a_frozen_job_is_told_to_all_and_they_tell_each_other(mesh_town, who):
    async def story():
        place = mesh_town(3)
        async with place.all() as daemons:
            await _submit(daemons["shop"], place, iterations=1000)
            await house.until(lambda: _has_applied(daemons["press"], "bank", 3))
            await daemons[who]._runner.freeze(JOB, "blob_damaged", "a test")
            for name, daemon in daemons.items():
                view = await house.ended(daemon, JOB)
                expected = ("frozen", "blob_damaged") if name == who else ("finished", "partner_frozen")
                assert (view.status, view.reason_code) == expected
                await house.until(lambda daemon=daemon: _outbox_empty(daemon, who))

    house.run(story)


async def _outbox_empty(daemon: Daemon, frozen: str) -> bool:
    """Whether nothing waits for a receipt, but for what a frozen job keeps and never says."""
    view = await daemon.job(JOB)
    rows = await daemon.journal.read(lambda connection: connection.execute(select(outbox.c.recipient)).all())
    return view.status == "frozen" or not rows


def test_a_word_of_a_fellow_provider_that_comes_before_the_proposal_is_not_lost(mesh_town):
    """It is parked as one of no known job; its sender asks, is told that nothing of it is here, and sends it again."""

    async def story():
        place = mesh_town(3)
        loop = asyncio.get_running_loop()
        async with place.all("shop", "bank") as daemons:
            await _submit(daemons["shop"], place, trouble="refuses", at="bank")
            assert (await house.ended(daemons["shop"], JOB)).reason_code == "contract_silly"
            await asyncio.sleep(house.TIMING.silence_last)
            # What the business has sent to press so far is lost; what the bank has sent to it is not.
            place.broker._queues[queue_name("control", "press", "shop")].messages.clear()
            assert place.broker.ready(queue_name("control", "press", "bank")) > 0
            began = loop.time()
            async with house.running(place.daemon("press")) as press:
                assert (await house.ended(press, JOB)).reason_code == "contract_silly"
                for daemon in (*daemons.values(), press):
                    await house.until(lambda daemon=daemon: _nothing_waits(daemon))
                assert loop.time() - began < 4 * house.TIMING.silence_last
                assert set(await press.parked_codes()) == {"unknown_job"}

    house.run(story)


def test_a_peer_that_is_no_party_of_the_contract_has_no_say_in_the_job(mesh_town):
    async def story():
        place = mesh_town(4)
        async with place.all("shop", "bank") as daemons:
            plan = mesh.Plan(parties=("shop", "bank", "press"))
            await daemons["shop"].submit(JOB, "bank", contract=mesh.contract(*plan.parties))
            await house.until(lambda: _has_applied(daemons["bank"], "shop", 1))
            mill = Stranger(place.broker, "mill", partner="bank")
            async with asyncio.TaskGroup() as group:
                running = group.create_task(mill.run())
                await mill.say(JOB, schemas.JobCancel(reason="mischief"), 1)
                await mill.say(JOB, unsequenced.Receipt(applied=10**6, credit=10**6), 0)
                await house.until(lambda: _parked(daemons["bank"], {"not_a_party": 2}))
                running.cancel()
            assert (await daemons["bank"].job(JOB)).status == "running"

    house.run(story)


async def _parked(daemon: Daemon, codes: dict[str, int]) -> bool:
    return await daemon.parked_codes() == codes


def test_a_contract_with_a_party_that_is_no_peer_is_not_submitted(mesh_town):
    async def story():
        place = mesh_town(2)
        async with place.all("shop") as daemons:
            with pytest.raises(PartnerUnknown, match="press is no peer of shop"):
                await daemons["shop"].submit(JOB, "bank", contract=mesh.contract("shop", "bank", "press"))
            assert await daemons["shop"].jobs() == []

    house.run(story)


def test_a_provider_that_does_not_know_a_fellow_party_says_so_and_the_job_ends(mesh_town):
    async def story():
        place = mesh_town(3)
        few = {"peers": {"shop": house.identity("shop").public}}
        async with place.all("shop", "press") as daemons, house.running(place.daemon("bank", **few)) as bank:
            await _submit(daemons["shop"], place)
            for daemon in (daemons["shop"], bank):
                view = await house.ended(daemon, JOB)
                assert (view.outcome, view.reason_code) == ("failed", "peer_unknown")
            assert "press, no peer of bank" in view.reason

    house.run(story)


def test_a_proposal_by_another_than_the_contracts_business_draws_nobody_else_in(mesh_town):
    async def story():
        place = mesh_town(3)
        async with place.all("bank") as daemons:
            press = Stranger(place.broker, "press", partner="bank")
            async with asyncio.TaskGroup() as group:
                running = group.create_task(press.run())
                proposal = schemas.JobPropose(contract=mesh.contract("shop", "bank", "press"))
                await press.say(JOB, proposal, 1)
                view = await house.ended(daemons["bank"], JOB)
                running.cancel()
            assert (view.reason_code, view.partners) == ("contract_parties", ("press",))

    house.run(story)
