"""What cannot be applied is parked under its own reason, bounded, and harms nothing."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from broker.embedded import EmbeddedTransport
from messages import schemas, unsequenced
from messages.identity import Identity
from services.engine.parking import park, parked_codes
from services.store.journal import ThreadedJournal, sqlite_url
from services.store.journal_schema import parked
from services.store.limits import PARKED_ROWS_MAX
from tests.services import house
from tests.services.stranger import Stranger, bank_and_stranger, propose

JOB = "job-1"
OTHER = Identity.generate("shop")


async def _not_an_envelope(shop, mallory):
    await shop.publish(JOB, "job.cancel", b"\x00 garbage")


async def _too_large(shop, mallory):
    await shop.publish(JOB, "job.cancel", bytes(2**21))


async def _wrong_signature(shop, mallory):
    await mallory.say(JOB, schemas.JobCancel(reason="forged"), 2)


async def _wrong_key(shop, mallory):
    data = shop.envelope(JOB, "job.cancel", shop.sealed(JOB, schemas.JobCancel(reason="")), 2)
    await shop.publish("job-2", "job.cancel", data)


async def _other_body(shop, mallory):
    data = shop.envelope(JOB, "job.cancel", b"body", 2, body_sha256=bytes(32))
    await shop.publish(JOB, "job.cancel", data)


async def _wrong_recipient(shop, mallory):
    await shop.say(JOB, schemas.JobCancel(reason=""), 2, recipient="tower")


async def _unknown_sender(shop, mallory):
    await shop.say(JOB, schemas.JobCancel(reason=""), 2, sender="tower")


async def _unknown_version(shop, mallory):
    await shop.say(JOB, schemas.JobCancel(reason=""), 2, version=9)


async def _unknown_suite(shop, mallory):
    await shop.say(JOB, schemas.JobCancel(reason=""), 2, suite="ROT13")


async def _no_sequence(shop, mallory):
    await shop.say(JOB, schemas.JobCancel(reason=""), 0)


async def _receipt_with_sequence(shop, mallory):
    await shop.say(JOB, unsequenced.Receipt(applied=0, credit=16), 2)


async def _conflict(shop, mallory):
    await shop.say(JOB, propose(seed=99), 1)


async def _unknown_job(shop, mallory):
    await shop.say("job-2", schemas.JobCancel(reason=""), 1)


async def _receipt_of_unknown_job(shop, mallory):
    await shop.say("job-2", unsequenced.Receipt(applied=0, credit=16), 0)


async def _large_control(shop, mallory):
    await shop.publish(JOB, "job.cancel", shop.envelope(JOB, "job.cancel", bytes(100_000), 2))


async def _sealed_proposal_of_rubbish(shop, mallory):
    await shop.publish("job-2", "job.propose", shop.envelope("job-2", "job.propose", bytes(2000), 1))


@pytest.mark.parametrize(
    ("misdeed", "code", "known"),
    [
        (_not_an_envelope, "malformed", False),
        (_too_large, "oversized", False),
        (_wrong_signature, "bad_signature", False),
        (_wrong_key, "wrong_key", False),
        (_other_body, "body_mismatch", False),
        (_wrong_recipient, "wrong_recipient", False),
        (_unknown_sender, "unknown_sender", False),
        (_unknown_version, "unknown_version", False),
        (_unknown_suite, "unknown_suite", False),
        (_no_sequence, "sequence_missing", True),
        (_receipt_with_sequence, "sequence_unexpected", True),
        (_conflict, "sequence_conflict", True),
        (_unknown_job, "unknown_job", True),
        (_receipt_of_unknown_job, "unknown_job", True),
        (_large_control, "body_oversized", True),
        (_sealed_proposal_of_rubbish, "seal_broken", True),
    ],
)
def test_what_cannot_be_applied_is_parked_by_its_reason_and_harms_no_job(town, misdeed, code, known):
    async def story():
        place = town()
        async with bank_and_stranger(place) as (bank, shop), _second_line(place) as mallory:
            await shop.say(JOB, propose(chunks=1), 1)
            await house.applied(bank, 1)
            await misdeed(shop, mallory)
            await house.parked_as(bank, code)
            (row,) = await bank.parked()
            assert (row.code, row.sender) == (code, "shop" if known else "")
            await shop.send_bulk(JOB, "link.terms", b"\x01\x02", 2)
            await house.until(lambda: "cross.term" in shop.kinds())
            assert place.broker.ready("control.bank.shop") == 0

    house.run(story)


@asynccontextmanager
async def _second_line(town: house.Town):
    """Somebody who reached the broker with the business's name and keys of his own."""
    mallory = Stranger(town.broker, "shop", identity=OTHER)
    mallory.transport = EmbeddedTransport(town.broker, "shop", [])
    async with mallory:
        yield mallory


def test_proposals_are_parked_where_nobody_answers_them(town):
    async def story():
        async with bank_and_stranger(town(answering_role=lambda contract: "")) as (bank, shop):
            await shop.say(JOB, propose(), 1)
            await house.parked_as(bank, "proposal_unwanted")
            assert await bank.jobs() == []

    house.run(story)


def test_a_signed_message_that_cannot_be_read_ends_its_job_and_says_so(town):
    async def story():
        async with bank_and_stranger(town()) as (bank, shop):
            for job, body, code in (("job-1", bytes(2000), "seal_broken"), ("job-2", b"", "seal_broken")):
                await shop.say(job, propose(), 1)
                await shop.publish(job, "job.cancel", shop.envelope(job, "job.cancel", body, 2))
                assert (await house.ended(bank, job)).reason_code == code
            await shop.say("job-3", propose(), 1)
            body = shop.sealed("job-3", schemas.JobCancel(reason=""))
            await shop.publish("job-3", "job.done", shop.envelope("job-3", "job.done", body, 2))
            assert (await house.ended(bank, "job-3")).reason_code == "seal_broken"
            await house.until(lambda: shop.kinds().count("job.failed") == 3)
            assert await bank.parked_codes() == {}

    house.run(story)


def test_the_parked_table_is_bounded_for_each_sender_and_counts_the_rest(tmp_path):
    async def story():
        journal = ThreadedJournal(sqlite_url(tmp_path / "journal.sqlite"), "shop")
        journal.open()

        def flood(connection):
            for number in range(PARKED_ROWS_MAX + 200):
                park(connection, at=0.0, code="flood", routing_key="k", body=b"%d" % number, sender="bank")
            park(connection, at=0.0, code="other", routing_key="k", body=bytes(10**6), sender="tower")

        with capture_logs():
            await journal.write(flood)
        rows = await journal.read(lambda c: c.execute(select(parked.c.sender, parked.c.excerpt)).all())
        assert sum(row.sender == "bank" for row in rows) == PARKED_ROWS_MAX
        assert [len(row.excerpt) for row in rows if row.sender == "tower"] == [4096]
        assert await journal.read(parked_codes) == {"flood": PARKED_ROWS_MAX + 200, "other": 1}
        journal.close()

    asyncio.run(story())
