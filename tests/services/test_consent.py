"""A steward is asked by a daemon: what it reads, and what its answer does."""

import asyncio
from typing import Any

import pytest

from protocol.state import Phase
from services.daemon.control import ControlError, Verb
from services.daemon.daemon import Daemon
from services.daemon.local import BUSINESS, NAMES, PROVIDER
from services.daemon.verbs import Verbs
from services.engine.waiting import Why
from services.party.logs import LogBook
from tests.parties import PARTNER
from tests.services import house
from tests.services.bureau import Bureau

ASK = {"approval": "ask"}


def verbs(place: Bureau, daemons: dict[str, Daemon], role: str = PROVIDER) -> dict[str, Verb]:
    return Verbs(place.parties[role], daemons[role], LogBook()).table()


async def asked(place: Bureau, daemons: dict[str, Daemon]) -> str:
    """Submit a job and wait until it waits for the provider's steward, and both know that."""
    job = await place.submit(daemons[BUSINESS])
    await place.reached(daemons[PROVIDER], Phase.APPROVING)
    await house.until(lambda: why(daemons[BUSINESS], job, Why.PARTNER_STEWARD))
    return job


async def why(daemon: Daemon, job: str, wanted: Why) -> bool:
    found = (await daemon.waits(job)).get(job)
    return found is not None and found.why is wanted


def test_the_steward_reads_who_asks_for_what_and_why_and_both_parties_see_whom_the_job_waits_for(tmp_path):
    async def story():
        place = Bureau(tmp_path, policy={"automatic_rows_max": 10, "ask_for": ["marks"]})
        async with place.both() as daemons:
            job = await asked(place, daemons)
            (pending,) = await verbs(place, daemons)["pending"]({})
            assert (pending["job"], pending["partner"]) == (job, NAMES[BUSINESS])
            assert pending["exceeded"] == [
                "60 identifiers are more than automatic_rows_max = 10",
                "ask_for names marks",
            ]
            assert pending["contract"][0].startswith(f"{NAMES[BUSINESS]} asks {NAMES[PROVIDER]} to train a logistic")
            assert pending["since"] == place.now
            view = await verbs(place, daemons)["job"]({"id": job})
            assert view["contract"] == pending["contract"]
            assert view["waiting"]["waits_for"] == "approval of its steward"
            theirs = await verbs(place, daemons, BUSINESS)["job"]({"id": job})
            assert theirs["waiting"]["waits_for"] == f"{NAMES[PROVIDER]}'s approval"
            assert await verbs(place, daemons, BUSINESS)["pending"]({}) == []

    asyncio.run(story())


def test_a_contract_within_the_automatic_limits_asks_nobody(tmp_path):
    async def story():
        place = Bureau(tmp_path, policy={"automatic_rows_max": 60, "automatic_iterations_max": 2})
        async with place.both() as daemons:
            job = await place.submit(daemons[BUSINESS])
            for daemon in daemons.values():
                assert (await house.ended(daemon, job)).outcome == "done"

    asyncio.run(story())


def test_an_approved_job_goes_on_after_a_restart_of_the_provider_between_question_and_answer(tmp_path):
    async def story():
        place = Bureau(tmp_path, policy=ASK)
        async with house.running(place.daemon(BUSINESS)) as business:
            async with house.running(place.daemon(PROVIDER)) as provider:
                job = await asked(place, {BUSINESS: business, PROVIDER: provider})
            async with house.running(place.daemon(PROVIDER)) as provider:
                daemons = {BUSINESS: business, PROVIDER: provider}
                assert await verbs(place, daemons)["approve"]({"id": job}) == {"job": job}
                for daemon in daemons.values():
                    assert (await house.ended(daemon, job)).outcome == "done"

    asyncio.run(story())


def test_a_declined_job_ends_at_both_with_the_steward_s_reason(tmp_path):
    async def story():
        place = Bureau(tmp_path, policy=ASK)
        async with place.both() as daemons:
            job = await asked(place, daemons)
            await verbs(place, daemons)["decline"]({"id": job, "reason": "not with marks"})
            for daemon in daemons.values():
                view = await house.ended(daemon, job)
                assert (view.outcome, view.reason_code, view.reason) == (
                    "declined",
                    "steward_declined",
                    "not with marks",
                )

    asyncio.run(story())


def test_an_answer_to_a_job_that_does_not_wait_changes_nothing(tmp_path):
    async def story():
        place = Bureau(tmp_path, policy=ASK)
        async with place.both() as daemons:
            job = await asked(place, daemons)
            steward: dict[str, Any] = verbs(place, daemons)
            with pytest.raises(ControlError, match="does not wait for its steward") as refused:
                await verbs(place, daemons, BUSINESS)["approve"]({"id": job})
            assert refused.value.code == "not_pending"
            with pytest.raises(ControlError, match="there is no job"):
                await steward["approve"]({"id": "job-of-nobody"})
            await steward["approve"]({"id": job})
            await house.until(lambda: left(daemons[PROVIDER], job))
            with pytest.raises(ControlError, match=r"over already|does not wait"):
                await steward["decline"]({"id": job, "reason": "too late"})
            assert (await house.ended(daemons[PROVIDER], job)).outcome == "done"

    asyncio.run(story())


async def left(daemon: Daemon, job: str) -> bool:
    return not await why(daemon, job, Why.STEWARD)


@pytest.mark.parametrize("role", [BUSINESS, PROVIDER])
def test_a_job_that_waits_for_a_steward_is_cancelled_by_either_side(tmp_path, role):
    async def story():
        place = Bureau(tmp_path, policy=ASK)
        async with place.both() as daemons:
            job = await asked(place, daemons)
            await daemons[role].cancel(job, "no longer needed")
            theirs = await house.ended(daemons[PARTNER[role]], job)
            assert (theirs.outcome, theirs.reason) == ("cancelled", f"cancelled by {NAMES[role]}: no longer needed")

    asyncio.run(story())
