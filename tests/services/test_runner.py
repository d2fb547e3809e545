"""What becomes of deliveries: applied once and in order, held back, dropped, or parked with a reason."""

import asyncio
import os

import msgspec
import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from messages import schemas, unsequenced
from messages.keys import routing_key
from services.daemon.daemon import Daemon, JobExists, JobUnknown, PartnerUnknown
from services.engine import jobs
from services.store import chain
from services.store.journal import ThreadedJournal, sqlite_url
from services.store.journal_schema import events
from services.store.journal_schema import jobs as jobs_table
from services.store.limits import CREDIT_WINDOW, HOLD_AHEAD
from tests.services import house, toy
from tests.services.stranger import bank_and_stranger, propose

JOB = "job-1"


def test_a_job_runs_to_its_result_at_both_parties(town):
    async def story():
        async with town().both() as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract(iterations=2, chunks=3))
            ended = await shop.wait(JOB)
            assert (ended.outcome, (await house.ended(bank, JOB)).outcome) == ("done", "done")
            result = await shop.result(JOB, ended.results[0])
            assert result == repr(list(toy.expected(toy.Plan(iterations=2, chunks=3)))).encode()
            assert ended.progress is not None
            assert (ended.progress.stage, ended.progress.iteration) == ("train", 2)

    house.run(story)


def test_many_jobs_run_at_once_and_one_that_breaks_takes_no_other_with_it(town):
    async def story():
        async with town().both() as (shop, bank):
            troubles = ["", "provider_breaks", "", "provider_refuses", ""]
            for number, trouble in enumerate(troubles):
                await shop.submit(f"job-{number}", "bank", contract=toy.contract(seed=number, trouble=trouble))
            outcomes = [(await shop.wait(f"job-{number}")).reason_code for number in range(5)]
            assert outcomes == ["", "machine_fault", "", "contract_silly", ""]
            assert (await house.ended(bank, "job-1")).reason_code == "machine_fault"

    house.run(story)


def test_operators_get_plain_refusals(town):
    async def story():
        async with house.running(town().daemon("shop")) as shop:
            with pytest.raises(PartnerUnknown):
                await shop.submit(JOB, "nobody", contract=b"")
            with pytest.raises(ValueError, match="job"):
                await shop.submit("../job", "bank", contract=b"")
            with pytest.raises(JobUnknown):
                await shop.cancel(JOB, "why not")
            await shop.submit(JOB, "bank", contract=toy.contract())
            with pytest.raises(JobExists):
                await shop.submit(JOB, "bank", contract=toy.contract())
            view = await shop.job(JOB)
            assert view.progress is not None
            assert (view.status, view.progress.waits_for) == ("running", "bank")

    house.run(story)


# -- order ---------------------------------------------------------------------------------------------------


def test_repeated_messages_are_applied_once(town):
    async def story():
        async with bank_and_stranger(town()) as (bank, shop):
            data = await shop.say(JOB, propose(), 1)
            for _ in range(3):
                await shop.publish(JOB, "job.propose", data)
            body = await shop.send_bulk(JOB, "link.terms", b"chunk", 2, chunks=2)
            await shop.publish(JOB, "link.terms", body)
            await house.counted(bank, JOB, "duplicates", 4)
            assert (await bank.statistics(JOB))["messages_received"] == 2

    house.run(story)


def test_messages_out_of_order_are_held_back_for_their_turn(town):
    async def story():
        async with bank_and_stranger(town()) as (bank, shop):
            await shop.say(JOB, propose(chunks=4), 1)
            await house.applied(bank, 1)
            for chunk in (3, 1, 2, 0):
                await shop.send_bulk(JOB, "link.terms", bytes([chunk]) * 9, 2 + chunk, chunk=chunk, chunks=4)
            await house.applied(bank, 5)
            assert (await bank.statistics(JOB))["held_back"] == 3
            await house.until(lambda: "cross.term" in shop.kinds())
            message = shop.last("cross.term")
            assert isinstance(message, schemas.CrossTerm)
            assert int.from_bytes(message.ciphertexts, "big") == 9 * (0 + 1 + 2 + 3)

    house.run(story)


def test_what_is_too_far_ahead_is_dropped_and_taken_when_it_comes_again(town):
    async def story():
        async with bank_and_stranger(town()) as (bank, shop):
            await shop.say(JOB, propose(), 1)
            await house.applied(bank, 1)
            await shop.say(JOB, schemas.JobCancel(reason="far"), 1 + HOLD_AHEAD)
            await house.counted(bank, JOB, "dropped_ahead", 1)
            assert "held_back" not in await bank.statistics(JOB)
            await shop.say(JOB, schemas.JobCancel(reason="near"), 2)
            assert (await house.ended(bank, JOB)).outcome == "cancelled"

    house.run(story)


def test_bulk_that_is_held_back_stays_within_the_credit_window(town):
    async def story():
        async with bank_and_stranger(town()) as (bank, shop):
            await shop.say(JOB, propose(chunks=40), 1)
            await house.applied(bank, 1)
            for sequence in range(3, 3 + CREDIT_WINDOW + 5):
                await shop.send_bulk(JOB, "link.terms", b"%d" % sequence, sequence, chunks=40)
            await house.counted(bank, JOB, "dropped_ahead", 5)
            assert (await bank.statistics(JOB))["held_back"] == CREDIT_WINDOW

    house.run(story)


def test_a_partner_that_sends_bulk_without_credit_loses_the_job(threaded_town):
    async def story():
        async with bank_and_stranger(threaded_town(functions="tests.services.idle_tasks")) as (bank, shop):
            await shop.say(JOB, propose(chunks=40), 1)
            for number in range(CREDIT_WINDOW + 1):
                await house.applied(bank, 1 + number)
                await shop.send_bulk(JOB, "link.terms", b"%d" % number, 2 + number, chunk=number, chunks=40)
            assert (await house.ended(bank, JOB)).reason_code == "credit_exceeded"

    asyncio.run(story())


def test_late_messages_of_a_job_that_is_over_are_receipted_and_nothing_else(town):
    async def story():
        async with bank_and_stranger(town()) as (bank, shop):
            await shop.say(JOB, propose(), 1)
            cancel = await shop.say(JOB, schemas.JobCancel(reason="enough"), 2)
            await house.ended(bank, JOB)
            await shop.publish(JOB, "job.cancel", cancel)
            await shop.send_bulk(JOB, "link.terms", b"late", 3, chunks=2)
            await house.counted(bank, JOB, "late", 1)
            await house.counted(bank, JOB, "duplicates", 1)
            view = await bank.job(JOB)
            assert (view.applied, view.outcome) == (3, "cancelled")

            def receipted() -> bool:
                return "receipt" in shop.kinds() and shop.last("receipt").applied == 3

            await house.until(receipted)

    house.run(story)


# -- endings -------------------------------------------------------------------------------------------------


def test_a_cancel_ends_the_job_at_both_parties(town):
    async def story():
        async with town().both() as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract(trouble="spin", times=1))
            await house.until(bank.jobs)
            await shop.cancel(JOB, "changed my mind")
            assert (await shop.wait(JOB)).outcome == "cancelled"
            assert (await house.ended(bank, JOB)).outcome == "cancelled"

    house.run(story)


def test_a_contract_that_expires_ends_its_job(town):
    async def story():
        now = [1000.0]
        async with house.running(town(surroundings=house.on_virtual_time(clock=lambda: now[0])).daemon("shop")) as shop:
            await shop.submit(JOB, "bank", contract=toy.contract(expires_at=2000.0))
            await shop.submit("job-2", "bank", contract=toy.contract(expires_at=3000.0))
            now[0] = 2001.0
            assert (await shop.wait(JOB)).outcome == "expired"
            assert (await shop.job("job-2")).status == "running"

    house.run(story)


def test_a_receipt_ahead_of_our_journal_freezes_the_job_for_good(town, tmp_path):
    async def story():
        async with bank_and_stranger(town()) as (bank, shop):
            await shop.say(JOB, propose(), 1)
            await house.until(lambda: "job.accept" in shop.kinds())
            await shop.say(JOB, unsequenced.Receipt(applied=7, credit=16), 0)
            view = await house.ended(bank, JOB)
            assert (view.status, view.reason_code) == ("frozen", "receipt_ahead")
            assert "old copy" in view.reason
            await shop.send_bulk(JOB, "link.terms", b"x", 2, chunks=2)
            await house.parked_as(bank, "job_frozen")
            assert (tmp_path / "bank" / "secrets" / JOB).exists()
        async with bank_and_stranger(town()) as (
            bank,
            shop,
        ):
            await shop.say("job-2", propose(), 1)
            await house.until(lambda: "job.accept" in shop.kinds())
            said = {(item.header.job, item.header.kind) for item in shop.heard}
            assert {kind for job, kind in said if job == JOB} <= {"job.frozen", "receipt"}

    house.run(story)


def test_a_header_that_claims_more_than_was_sent_freezes_too(town):
    async def story():
        async with bank_and_stranger(town()) as (bank, shop):
            await shop.say(JOB, propose(), 1)
            await house.applied(bank, 1)
            await shop.send_bulk(JOB, "link.terms", b"x", 2, chunks=2, received=5)
            assert (await house.ended(bank, JOB)).status == "frozen"

    house.run(story)


# -- secrets and records ---------------------------------------------------------------------------------------


def test_the_job_secret_is_private_while_the_job_runs_and_gone_after(town, tmp_path):
    async def story():
        async with town().both() as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract(trouble="spin", times=1))
            path = tmp_path / "shop" / "secrets" / JOB
            secret = path.read_bytes()
            assert (len(secret), path.stat().st_mode & 0o777) == (32, 0o600)
            await shop.wait(JOB)
            await house.ended(bank, JOB)
            assert not path.exists()
        for file in tmp_path.rglob("*"):
            assert file.is_dir() or secret not in file.read_bytes()

    house.run(story)


def test_no_private_value_reaches_log_or_partner(town):
    async def story():
        with capture_logs() as lines:
            async with town().both() as (shop, _):
                await shop.submit(JOB, "bank", contract=toy.contract(trouble="provider_breaks"))
                view = await shop.wait(JOB)
                await shop.submit("job-2", "bank", contract=toy.contract(trouble="stumble"))
                other = await shop.wait("job-2")
        assert "secret value" not in repr(lines) + repr(view) + repr(other)
        assert any(line.get("error") == "ValueError" for line in lines)

    house.run(story)


async def _chain(daemon: Daemon):
    rows = await daemon.journal.read(lambda c: c.execute(select(events).order_by(events.c.position)).all())
    return rows, await daemon.job(JOB)


def test_the_chain_of_every_party_can_be_computed_again_from_its_entries(town):
    async def story():
        async with town().both() as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract(chunks=2))
            await shop.wait(JOB)
            await house.ended(bank, JOB)
            for daemon, name in ((shop, "shop"), (bank, "bank")):
                rows, view = await _chain(daemon)
                head = chain.genesis(JOB, name)
                for place, row in enumerate(rows, start=1):
                    salted = chain.event_digest(row.salt, row.event)
                    head = chain.next_head(head, chain.entry_digest(row.kind, row.header, row.signature, salted))
                    assert (row.position, row.head) == (place, head)
                assert view.head == head.hex()
            sent = [row.header for row in (await _chain(shop))[0] if row.kind == "sent"]
            got = [row.header for row in (await _chain(bank))[0] if row.kind == "received"]
            assert sent == got

    house.run(story)


class Newer(toy.Toy):
    """The same rules under a new version."""

    logic_version = 2


def test_a_state_of_another_version_is_folded_again_from_the_events(threaded_town, tmp_path):
    async def story():
        async with threaded_town().both() as (shop, _):
            await shop.submit(JOB, "bank", contract=toy.contract(seed=5, chunks=2))
            await shop.wait(JOB)

        def spoil(connection):
            record = jobs.load(connection, JOB)
            connection.execute(update(jobs_table).values(state=b"\xc1 unreadable"))
            return record.state

        journal = ThreadedJournal(sqlite_url(tmp_path / "shop" / "journal.sqlite"), "shop")
        journal.open()
        state = await journal.write(spoil)
        folded = await journal.read(lambda c: jobs.state_of(c, jobs.load(c, JOB), Newer("business"), "shop"))
        assert msgspec.msgpack.encode(folded) == state
        journal.close()

    asyncio.run(story())


def test_a_job_whose_state_is_of_another_version_takes_its_next_event_once(town):
    async def story():
        async with town().both() as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract(trouble="wait", chunks=2))
            await house.applied(bank, 1)
            for daemon in (shop, bank):
                await daemon.journal.write(
                    lambda c: c.execute(update(jobs_table).values(state=b"\xc1 unreadable", state_tag="0.1"))
                )
            await shop.cancel(JOB, "enough")
            for daemon in (shop, bank):
                ended = await house.ended(daemon, JOB)
                assert (ended.outcome, ended.reason_code) == ("cancelled", "cancelled"), ended.reason

    house.run(story)


# -- a full disk -----------------------------------------------------------------------------------------------


def test_a_full_disk_stops_consuming_and_nothing_is_lost_when_there_is_room_again(threaded_town):
    async def story():
        place = threaded_town()
        async with bank_and_stranger(place) as (bank, shop):
            await shop.say(JOB, propose(chunks=8), 1)
            await house.applied(bank, 1)
            pages = await bank.journal.write(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar())
            await bank.journal.write(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={pages}"))
            for number in range(8):
                await shop.send_bulk(JOB, "link.terms", os.urandom(9000), 2 + number, chunk=number, chunks=8)
                await shop.publish(JOB, "job.cancel", os.urandom(5000))
            await house.until(lambda: "paused" in bank.transport_state.detail)
            assert bank.disk.trouble == "database or disk is full"
            await bank.journal.write(lambda c: c.exec_driver_sql("PRAGMA max_page_count=1000000"))
            await house.applied(bank, 9)
            await house.until(lambda: "cross.term" in shop.kinds())

    asyncio.run(story())


def test_routing_keys_are_those_of_the_design():
    assert routing_key("shop", "bank", "link.terms", JOB) == "from.shop.to.bank.bulk.job-1.link.terms"
