"""A cancel: at any stage, from either side, at once, and told to the other one."""

import asyncio

import pytest

from protocol.state import TERMINAL, Phase
from protocol.table import TRANSITIONS
from services.daemon.daemon import JobOver, JobUnknown
from services.daemon.local import BUSINESS, NAMES, PROVIDER
from services.engine.waiting import Why
from tests.parties import PARTNER
from tests.services import gates, house, toy
from tests.services.bureau import ALLOWED_EARLY, EARLY, STAGES, Bureau

JOB = "job-1"


@pytest.fixture
def town(threaded_town):
    """Threads take their time here as they do in a daemon."""
    return threaded_town


def test_the_stages_of_these_tests_are_all_that_the_tables_know():
    # Of training: jobs that score are in tests/simulation/test_scoring.py, those that ask a steward in test_consent.py.
    known = {(role, phase) for role in NAMES for phase in TRANSITIONS[role] if phase is not Phase.NEW}
    # Early stopping has its own test below.
    phases = known - {(PROVIDER, Phase.APPROVING), *((role, Phase.EVALUATING) for role in NAMES)}
    assert set(STAGES) == phases - {(role, phase) for role in NAMES for phase in TERMINAL}


@pytest.mark.parametrize("by", ["itself", "its partner"])
@pytest.mark.parametrize(("role", "phase"), STAGES, ids=lambda item: str(getattr(item, "value", item)))
def test_a_job_is_cancelled_at_any_stage_by_either_side(tmp_path, role, phase, by):
    async def story():
        place = Bureau(tmp_path)
        who = role if by == "itself" else PARTNER[role]
        with gates.shut(*((NAMES[party], function) for party, function in STAGES[role, phase])):
            async with place.both() as daemons:
                job = await place.submit(daemons["business"])
                await place.reached(daemons[role], phase)
                if who == "provider":
                    await house.until(daemons["provider"].jobs)
                await daemons[who].cancel(job, "changed my mind")
                mine = await daemons[who].job(job)
                assert (mine.outcome, mine.reason) == ("cancelled", f"cancelled by {NAMES[who]}: changed my mind")
                theirs = await house.ended(daemons[PARTNER[who]], job)
                assert (theirs.outcome, theirs.reason) == (mine.outcome, mine.reason)
                gates.release()

    asyncio.run(story())


@pytest.mark.parametrize("who", NAMES)
def test_a_job_is_cancelled_while_its_business_judges_whether_to_stop(tmp_path, who):
    async def story():
        place = Bureau(tmp_path, policy=ALLOWED_EARLY, asked=EARLY)
        with gates.shut((NAMES[BUSINESS], "stop.judge")):
            async with place.both() as daemons:
                job = await place.submit(daemons[BUSINESS])
                for daemon in daemons.values():
                    await place.reached(daemon, Phase.EVALUATING)
                await daemons[who].cancel(job, "changed my mind")
                theirs = await house.ended(daemons[PARTNER[who]], job)
                assert (theirs.outcome, theirs.reason) == ("cancelled", f"cancelled by {NAMES[who]}: changed my mind")
                gates.release()

    asyncio.run(story())


def test_a_cancel_takes_effect_while_the_partner_is_away_and_is_told_when_it_comes_back(town):
    async def story():
        place = town(functions="tests.services.idle_tasks")
        async with house.running(place.daemon("shop")) as shop:
            async with house.running(place.daemon("bank")) as bank:
                await shop.submit(JOB, "bank", contract=toy.contract())
                await house.applied(bank, 1)
            await shop.cancel(JOB, "no patience")
            assert (await shop.job(JOB)).outcome == "cancelled"
            untold = (await shop.waits())[JOB]
            assert (untold.waits_for, untold.why) == ("bank", Why.PARTNER_UNTOLD)
            async with house.running(place.daemon("bank")) as bank:
                assert (await house.ended(bank, JOB)).outcome == "cancelled"
                await house.until(lambda: nothing_waits(shop))

    asyncio.run(story())


async def nothing_waits(daemon) -> bool:
    return not await daemon.waits()


def test_a_cancel_while_the_broker_is_away_is_told_when_it_comes_back_even_to_a_daemon_that_was_restarted(town):
    async def story():
        place = town(functions="tests.services.idle_tasks")
        async with place.both() as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract())
            await house.applied(bank, 1)
        place.broker.stop()
        async with house.running(place.daemon("bank")) as bank:
            await bank.cancel(JOB, "too dear")
        place.broker.start()
        async with place.both() as (shop, bank):
            assert (await shop.wait(JOB)).outcome == "cancelled"

    asyncio.run(story())


def test_to_cancel_a_job_that_is_over_says_how_it_ended(town):
    async def story():
        async with town().both() as (shop, _):
            await shop.submit(JOB, "bank", contract=toy.contract())
            await shop.wait(JOB)
            with pytest.raises(JobOver, match="job job-1 is over already: done"):
                await shop.cancel(JOB, "too late")
            assert (await shop.job(JOB)).outcome == "done"
            with pytest.raises(JobUnknown):
                await shop.cancel("job-2", "never was")

    asyncio.run(story())


def test_two_operators_who_cancel_at_the_same_time_end_the_job_at_both(town):
    async def story():
        place = town(functions="tests.services.idle_tasks")
        async with place.both() as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract())
            await house.applied(bank, 1)
            place.broker.stop()
            await shop.cancel(JOB, "mine")
            await bank.cancel(JOB, "mine too")
            place.broker.start()
            await house.until(lambda: nothing_waits(shop))
            await house.until(lambda: nothing_waits(bank))
            assert {(await daemon.job(JOB)).outcome for daemon in (shop, bank)} == {"cancelled"}

    asyncio.run(story())
