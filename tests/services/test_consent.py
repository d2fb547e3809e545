"""A steward is asked by a daemon: what it reads, and what its answer does."""

import asyncio
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from protocol.state import Phase
from services.daemon.control import ControlError, Verb
from services.daemon.daemon import Daemon
from services.daemon.local import BUSINESS, NAMES, PROVIDER
from services.daemon.verbs import Verbs
from services.engine.waiting import Why
from services.party.logs import LogBook
from services.store.orders import Orders, OrdersDamaged, Revocation, write_orders
from tests.parties import PARTNER
from tests.services import gates, house
from tests.services.bureau import STAGES, Bureau

ASK = {"approval": "ask"}
COMMITS_OF_A_START = 3
"""What a daemon commits before it looks at its orders: its mark, what it recovers, and jobs of former keys."""


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


# -- taking it back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.ADMITTING, Phase.ALIGNING, Phase.LINKING])
def test_a_revoked_job_ends_at_both_with_the_reason(tmp_path, phase):
    async def story():
        place = Bureau(tmp_path)
        with gates.shut(*((NAMES[party], function) for party, function in STAGES[PROVIDER, phase])):
            async with place.both() as daemons:
                job = await place.submit(daemons[BUSINESS])
                await place.reached(daemons[PROVIDER], phase)
                await verbs(place, daemons)["revoke"]({"id": job, "reason": "the agreement has ended"})
                gates.release()
                for daemon in daemons.values():
                    view = await house.ended(daemon, job)
                    assert (view.outcome, view.reason_code) == (
                        "declined" if phase is Phase.ADMITTING else "failed",
                        "revoked",
                    )
                    assert f"{NAMES[PROVIDER]} revoked its consent: the agreement has ended" in view.reason

    asyncio.run(story())


def test_a_business_cannot_revoke_and_is_told_what_to_do(tmp_path):
    async def story():
        place = Bureau(tmp_path, policy=ASK)
        async with place.both() as daemons:
            job = await asked(place, daemons)
            with pytest.raises(ControlError, match="`warren cancel` ends it"):
                await verbs(place, daemons, BUSINESS)["revoke"]({"id": job})
            assert (await daemons[BUSINESS].job(job)).status == "running"

    asyncio.run(story())


def test_a_partner_whose_consent_is_revoked_gets_no_job_until_it_is_allowed_again_even_after_a_restart(tmp_path):
    async def story():
        place = Bureau(tmp_path, policy=ASK)
        async with house.running(place.daemon(BUSINESS)) as business:
            async with house.running(place.daemon(PROVIDER)) as provider:
                daemons = {BUSINESS: business, PROVIDER: provider}
                waiting = await asked(place, daemons)
                order = {"partner": NAMES[BUSINESS], "dataset": "features", "reason": "under review"}
                assert await verbs(place, daemons)["revoke"](order) == {"jobs": [waiting]}
                assert (await house.ended(business, waiting)).reason_code == "revoked"
            async with house.running(place.daemon(PROVIDER)) as provider:
                daemons = {BUSINESS: business, PROVIDER: provider}
                view = await house.ended(business, await place.submit(business))
                assert (view.outcome, view.reason_code) == ("declined", "revoked")
                assert "under review" in view.reason
                steward = verbs(place, daemons)
                (stands,) = (await steward["orders"]({}))["revoked"]
                assert (stands["partner"], stands["dataset"], stands["at"]) == (NAMES[BUSINESS], "features", place.now)
                with pytest.raises(ControlError, match="nothing is revoked of"):
                    await steward["allow"]({"partner": NAMES[BUSINESS]})
                await steward["allow"]({"partner": NAMES[BUSINESS], "dataset": "features"})
                await asked(place, daemons)

    asyncio.run(story())


def test_what_an_order_ends_has_ended_before_anything_runs_however_long_the_disk_has_no_room(tmp_path):
    async def story():
        place = Bureau(tmp_path, policy=ASK)
        async with house.running(place.daemon(BUSINESS)) as business:
            async with house.running(place.daemon(PROVIDER)) as provider:
                job = await asked(place, {BUSINESS: business, PROVIDER: provider})
            order = Revocation(partner=NAMES[BUSINESS], reason="under review", at=place.now)
            write_orders(place.parties[PROVIDER].data_directory, Orders(revoked=(order,)))
            daemon = place.daemon(PROVIDER)
            started, room = daemon.journal.cost, [OSError(28, "no space")] * 3
            transactions = daemon.journal._transactions
            sync = transactions._before_commit

            def full() -> None:
                if started.commits == COMMITS_OF_A_START and room:
                    raise room.pop()
                sync()

            transactions._before_commit = full
            with capture_logs() as lines:
                async with house.running(daemon):
                    assert (await daemon.job(job)).reason_code == "revoked"
                    assert (await house.ended(business, job)).reason_code == "revoked"
            said = [line["event"].partition(":")[0] for line in lines]
            assert said.count("no job goes on yet") == 3
            assert not room

    asyncio.run(story())


def test_a_revocation_of_one_data_set_leaves_the_others_open(tmp_path):
    async def story():
        place = Bureau(tmp_path)
        entry = place.parties[PROVIDER].file.dataset[0]
        file = msgspec.structs.replace(
            place.parties[PROVIDER].file, dataset=(entry, msgspec.structs.replace(entry, name="others"))
        )
        place.parties[PROVIDER] = msgspec.structs.replace(place.parties[PROVIDER], file=file)
        async with place.both() as daemons:
            await verbs(place, daemons)["revoke"]({"partner": NAMES[BUSINESS], "dataset": "others"})
            assert (await house.ended(daemons[BUSINESS], await place.submit(daemons[BUSINESS]))).outcome == "done"

    asyncio.run(story())


# -- pauses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [BUSINESS, PROVIDER])
@pytest.mark.parametrize("by", ["job", "partner"])
def test_a_paused_job_rests_over_a_restart_is_seen_to_and_ends_as_if_nothing_had_been(tmp_path, role, by):
    async def story():
        place = Bureau(tmp_path)
        other = PARTNER[role]
        whom = {"partner": NAMES[other]}
        with gates.shut((NAMES[PROVIDER], "features.quantise"), (NAMES[BUSINESS], "features.quantise")):
            async with house.running(place.daemon(role)) as mine, house.running(place.daemon(other)) as theirs:
                job = await place.submit(mine if role == BUSINESS else theirs)
                await place.reached(mine, Phase.CODING)
                whom = {"id": job} if by == "job" else whom
                assert await verbs(place, {role: mine}, role)["pause"](whom) == {"jobs": [job]}
                gates.release()
                await house.until(lambda: why(theirs, job, Why.PARTNER_RESTS))
        async with house.running(place.daemon(role)) as mine:
            assert await why(mine, job, Why.PAUSED)
            ran = (await mine.statistics(job))["tasks_run"]
            # Whoever comes back learns of it, because its questions are answered.
            async with house.running(place.daemon(other)) as theirs:
                await house.until(lambda: why(theirs, job, Why.PARTNER_RESTS))
                assert (await mine.statistics(job))["tasks_run"] == ran
                assert await verbs(place, {role: mine}, role)["resume"](whom) == {"jobs": [job]}
                for daemon in (mine, theirs):
                    assert (await house.ended(daemon, job)).outcome == "done"

    asyncio.run(story())


def test_a_paused_job_can_be_cancelled_and_the_partner_hears_of_it(tmp_path):
    async def story():
        place = Bureau(tmp_path, policy=ASK)
        async with place.both() as daemons:
            job = await asked(place, daemons)
            await verbs(place, daemons)["pause"]({"id": job})
            await daemons[PROVIDER].cancel(job, "never mind")
            assert (await house.ended(daemons[BUSINESS], job)).outcome == "cancelled"

    asyncio.run(story())


def test_what_is_not_paused_cannot_be_resumed(tmp_path):
    async def story():
        place = Bureau(tmp_path)
        async with place.both() as daemons:
            with pytest.raises(ControlError, match="is not paused"):
                await verbs(place, daemons)["resume"]({"partner": NAMES[BUSINESS]})
            with pytest.raises(ControlError, match="is no peer"):
                await verbs(place, daemons)["pause"]({"partner": "nobody"})
            with pytest.raises(ControlError, match="no job job-1 is running"):
                await verbs(place, daemons)["pause"]({"id": "job-1"})

    asyncio.run(story())


# -- all jobs of a partner together ----------------------------------------------------------------------------------


def test_more_jobs_at_a_time_than_the_policy_allows_are_declined_until_one_has_ended(tmp_path):
    async def story():
        place = Bureau(tmp_path, policy={**ASK, "jobs_max": 1})
        async with place.both() as daemons:
            first = await asked(place, daemons)
            view = await house.ended(daemons[BUSINESS], await place.submit(daemons[BUSINESS]))
            assert (view.outcome, view.reason_code) == ("declined", "jobs_max")
            assert view.reason == f"1 jobs of {NAMES[BUSINESS]} are running: the policy has jobs_max = 1"
            await daemons[PROVIDER].decline(first, "make room")
            await house.ended(daemons[BUSINESS], first)
            await asked(place, daemons)

    asyncio.run(story())


def test_jobs_of_a_period_are_counted_until_it_is_over_and_declined_ones_are_not(tmp_path):
    async def story():
        place = Bureau(tmp_path, policy={**ASK, "jobs_per_period": 1, "period_days": 2})
        async with place.both() as daemons:
            await daemons[PROVIDER].decline(await asked(place, daemons), "not this one")
            await daemons[PROVIDER].cancel(await asked(place, daemons), "this one counts")
            view = await house.ended(daemons[BUSINESS], await place.submit(daemons[BUSINESS]))
            assert (view.outcome, view.reason_code) == ("declined", "jobs_per_period")
            assert "jobs_per_period = 1" in view.reason
            place.now += 2 * 86_400
            await asked(place, daemons)

    asyncio.run(story())


def test_more_common_rows_than_a_period_allows_fail_the_job_with_the_limit_and_what_is_left(tmp_path):
    async def story():
        place = Bureau(tmp_path, policy={"rows_per_period": 59})
        async with place.both() as daemons:
            job = await place.submit(daemons[BUSINESS])
            view = await house.ended(daemons[PROVIDER], job)
            assert (view.outcome, view.reason_code) == ("failed", "rows_per_period")
            assert "60 common rows, 59 are left of rows_per_period = 59" in view.reason
            assert (await house.ended(daemons[BUSINESS], job)).reason_code == "rows_per_period"

    asyncio.run(story())


def test_a_job_rests_in_the_quiet_hours_of_its_partner_and_goes_on_after_them(tmp_path):
    async def story():
        # The clock of these parties stands at 08:00 UTC.
        place = Bureau(tmp_path, policy={"quiet_hours": "07:00-09:00 UTC"})
        async with place.both() as daemons:
            job = await place.submit(daemons[BUSINESS])
            await house.until(lambda: why(daemons[BUSINESS], job, Why.PARTNER_RESTS))
            assert await why(daemons[PROVIDER], job, Why.QUIET_HOURS)
            assert "quiet hours" in (await daemons[BUSINESS].waits(job))[job].detail
            assert "tasks_run" not in await daemons[PROVIDER].statistics(job)
            place.now += 3600.0
            for daemon in daemons.values():
                assert (await house.ended(daemon, job)).outcome == "done"

    asyncio.run(story())


def test_orders_that_cannot_be_read_keep_a_daemon_from_starting_without_them(tmp_path):
    place = Bureau(tmp_path)
    directory = place.parties[PROVIDER].data_directory
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "orders.json").write_text('{"revoked": "everything"}')
    with pytest.raises(OrdersDamaged, match=r"orders\.json: cannot be read .* restore it from a backup"):
        place.daemon(PROVIDER)
