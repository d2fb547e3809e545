"""Jobs that were over long ago leave the journal by themselves, as far as the operator lets them, and stay provable."""

import asyncio
import sqlite3
from contextlib import AsyncExitStack, closing

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, select

from broker.embedded import EmbeddedBroker, EmbeddedTransport
from messages import schemas, unsequenced
from services.audit.exporting import archive_of, reading
from services.audit.reconciling import reconcile
from services.daemon.daemon import Daemon
from services.daemon.local import BUSINESS, NAMES, PROVIDER
from services.daemon.retaining import archive_due
from services.daemon.serve import make_daemon
from services.engine import archiving
from services.engine.jobs import Status
from services.engine.records import AuditError
from services.models.store import ModelStore
from services.party.configuration import Party
from services.store.journal_schema import metadata
from tests import postgres
from tests.audit.recorded import AUDITOR, PARTNER, Recorded, record
from tests.parties import PARTNER as PARTNER_OF
from tests.services import house, toy
from tests.services.stranger import bank_and_stranger, propose

JOB = "job-1"
DAY_S = 86_400.0
KEPT_BY_NAME = {"jobs", "lines"}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recorded]:
    """Two parties with a job of each retention, that are over."""
    place = tmp_path_factory.mktemp("ended")
    return {
        retention: record(place / retention, rows=60, retention=retention, max_iterations=1)
        for retention in ("digests", "full")
    }


def told(place: Recorded, **days: float) -> dict[str, Party]:
    """The parties with these keys in party.toml."""
    parties = {role: place.party(role) for role in place.paths}
    return {role: replace(party, file=replace(party.file, **days)) for role, party in parties.items()}


def rows_of(party: Party, job: str) -> set[str]:
    """Tables with rows of a job."""
    with closing(sqlite3.connect(party.data_directory / "journal.sqlite")) as journal:
        names = [name for (name,) in journal.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        with_jobs = [
            name for name in names if any(row[1] == "job" for row in journal.execute(f"PRAGMA table_info({name})"))
        ]
        return {name for name in with_jobs if journal.execute(f"SELECT 1 FROM {name} WHERE job = ?", (job,)).fetchone()}


def ledger_of(party: Party) -> list[bytes]:
    return sorted(path.read_bytes() for path in (party.data_directory / "ledger").rglob("*.npz"))


def daemon_of(party: Party, broker: EmbeddedBroker, role: str) -> Daemon:
    return make_daemon(party, EmbeddedTransport(broker, party.file.name, [NAMES[PARTNER_OF[role]]]))


async def archived(parties: dict[str, Party], days: float) -> dict[str, int]:
    """How many jobs each party archives when so many days have gone by since, and both know that the job is over."""
    broker, found = EmbeddedBroker(tuple(NAMES.values())), {}
    async with AsyncExitStack() as stack:
        daemons = {
            role: await stack.enter_async_context(house.running(daemon_of(party, broker, role)))
            for role, party in parties.items()
        }
        for role, daemon in daemons.items():
            await house.until(lambda daemon=daemon: quiet(daemon))
            (view,) = await daemon.jobs()
            found[role] = await archive_due(parties[role], daemon, view.updated_at + days * DAY_S)
    return found


async def quiet(daemon: Daemon) -> bool:
    return not await daemon.waits()


def test_a_job_leaves_the_journal_after_its_days_and_is_proved_by_its_file(ended):
    place = ended["digests"]
    parties = told(place, retention_days=30)
    assert asyncio.run(archived(parties, 29.9)) == {BUSINESS: 0, PROVIDER: 0}
    assert all("events" in rows_of(party, place.job) for party in parties.values())
    ledgers = {role: ledger_of(party) for role, party in parties.items()}
    assert all(ledgers.values())
    assert asyncio.run(archived(parties, 30.1)) == {BUSINESS: 1, PROVIDER: 1}
    for role, party in parties.items():
        assert rows_of(party, place.job) == KEPT_BY_NAME
        assert ModelStore(party.data_directory).has(place.job)
        assert (party.data_directory / "results" / place.job / "parameters.json").exists()
        assert ledger_of(party) == ledgers[role]
        assert not list((party.data_directory / "blobs").rglob("*"))
    files = [archive_of(party, place.job) for party in parties.values()]
    together = reconcile(*files)
    assert together.holds, together.findings
    assert together.matched > 10
    with reading(parties[BUSINESS]), pytest.raises(AuditError, match=rf"archived: .*{files[0]}"):
        place.export(BUSINESS, PARTNER, place.paths[BUSINESS].parent / "again")
    assert asyncio.run(archived(parties, 100)) == {BUSINESS: 0, PROVIDER: 0}


def test_a_job_of_which_everything_is_kept_has_days_of_its_own(ended, tmp_path):
    place = ended["full"]
    assert asyncio.run(archived(told(place, retention_days=1), 1000)) == {BUSINESS: 0, PROVIDER: 0}
    place.export(PROVIDER, AUDITOR, tmp_path / "still.auditor")
    assert asyncio.run(archived(told(place, retention_full_days=2), 2.1)) == {BUSINESS: 1, PROVIDER: 1}
    assert rows_of(place.party(PROVIDER), place.job) == KEPT_BY_NAME
    assert not list((place.party(PROVIDER).data_directory / "secrets").iterdir())


def test_of_an_archived_job_a_proposal_that_comes_again_is_answered_and_begins_nothing(town):
    async def story():
        async with bank_and_stranger(town()) as (bank, shop):
            first = await shop.say(JOB, propose(trouble="wait", chunks=2), 1)
            await house.applied(bank, 1)
            await bank.cancel(JOB, "enough")
            sent = (await house.ended(bank, JOB)).sent
            assert await bank.journal.read(due_now) == []
            await shop.say(JOB, unsequenced.Receipt(applied=sent, credit=0), 0)
            await house.until(lambda: is_due(bank))
            head = (await bank.purge(JOB)).head
            assert not await bank.journal.write(lambda connection: archiving.archive(connection, JOB, "an older head"))
            assert await bank.journal.write(lambda connection: archiving.archive(connection, JOB, head))
            assert await bank.journal.read(due_now) == []
            shop.heard.clear()
            await shop.publish(JOB, "job.propose", first)
            await house.until(lambda: "receipt" in shop.kinds())
            assert shop.last("receipt").applied == 1
            with pytest.raises(AuditError, match="archived already"):
                await bank.purge(JOB)
            (view,) = await bank.jobs()
            assert (view.status, view.outcome, view.applied) == (Status.ARCHIVED, "cancelled", 1)

    house.run(story)


def test_what_a_partner_still_had_to_say_of_an_archived_job_is_receipted_in_turn_and_nothing_of_it_is_kept(town):
    async def story():
        async with bank_and_stranger(town()) as (bank, shop):
            await shop.say(JOB, propose(trouble="wait", chunks=2), 1)
            await house.applied(bank, 1)
            await bank.cancel(JOB, "enough")
            sent = (await house.ended(bank, JOB)).sent
            await shop.say(JOB, unsequenced.Receipt(applied=sent, credit=0), 0)
            await house.until(lambda: is_due(bank))
            head = (await bank.purge(JOB)).head
            assert await bank.journal.write(lambda connection: archiving.archive(connection, JOB, head))
            shop.heard.clear()
            await shop.say(JOB, schemas.JobCancel(reason="out of turn"), 3)
            await shop.say(JOB, schemas.JobCancel(reason="late"), 2)
            await house.until(lambda: "receipt" in shop.kinds())
            assert shop.last("receipt").applied == 2
            await shop.say(JOB, schemas.JobCancel(reason="in turn"), 3)
            await house.until(lambda: shop.last("receipt").applied == 3)
            # A partner that holds these receipts does not find an old copy of a journal here.
            await shop.say(JOB, unsequenced.ReceiptHeld(receipted=3), 0)
            shop.heard.clear()
            await shop.say(JOB, unsequenced.ReceiptRequest(sent=3), 0)
            await house.until(lambda: "receipt" in shop.kinds())
            assert shop.last("receipt").applied == 3
            assert await bank.parked_codes() == {}
            assert await bank.journal.read(tables_with_rows) == {"meta", "jobs", "lines", "partners"}
            (view,) = await bank.jobs()
            assert (view.status, view.outcome, view.applied) == (Status.ARCHIVED, "cancelled", 3)

    house.run(story)


def due_now(connection: Connection) -> list[str]:
    return archiving.due(connection, before=2e9, whole_before=0.0, at_once=9)


async def is_due(daemon: Daemon) -> bool:
    return await daemon.journal.read(due_now) == [JOB]


def test_at_postgresql_only_the_name_of_an_archived_job_stays_as_well(tmp_path):
    url = postgres.url(postgres.fresh_database())

    async def story():
        place = house.Town(tmp_path, fields={"workers": 0})
        async with (
            house.running(place.daemon("shop", journal_url=url)) as shop,
            house.running(place.daemon("bank")),
        ):
            await shop.submit(JOB, "bank", contract=toy.contract(chunks=3))
            assert (await shop.wait(JOB)).outcome == "done"
            await house.until(lambda: is_due(shop))
            head = (await shop.purge(JOB)).head
            assert await shop.journal.write(lambda connection: archiving.archive(connection, JOB, head))
            assert await shop.journal.write(archiving.give_back) == 0
            assert (await shop.job(JOB)).status == Status.ARCHIVED
            left = await shop.journal.read(tables_with_rows)
            assert left == {"meta", "jobs", "lines", "partners"}

    asyncio.run(story())


def tables_with_rows(connection: Connection) -> set[str]:
    tables = metadata.tables
    return {name for name, table in tables.items() if connection.execute(select(table).limit(1)).first() is not None}
