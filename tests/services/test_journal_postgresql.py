"""A journal at PostgreSQL: whole jobs, and one daemon on it, whatever becomes of its sessions."""

import asyncio
import os
import signal

import pytest
from sqlalchemy import Connection, insert, select

from services.daemon.local import (
    NAMES,
    PROVIDER,
    connect,
    embedded,
    processes,
    run_job,
    serve,
    wait_for,
)
from services.party.configuration import load_party
from services.store.journal import JournalUnavailable, ThreadedJournal
from services.store.journal_lock import JournalTaken
from services.store.journal_schema import counters
from tests import postgres
from tests.parties import until
from tests.rabbitmq import fresh_parties, running_broker
from tests.services import house, toy
from tests.services.test_local import JOB as SMALL
from tests.services.test_local import parties

JOB = "job-1"
PROPOSAL = {**SMALL, "partner": f"{NAMES[PROVIDER]}/features"}


def test_a_job_runs_with_its_journal_at_postgresql_and_a_second_daemon_is_refused(tmp_path):
    url = postgres.url(postgres.fresh_database())

    async def story():
        place = house.Town(tmp_path, fields={"workers": 0})
        other = house.Town(tmp_path / "elsewhere", fields={"workers": 0, "journal_url": url})
        async with (
            house.running(place.daemon("shop", journal_url=url)) as shop,
            house.running(place.daemon("bank")) as bank,
        ):
            with pytest.raises(JournalTaken) as caught:
                await other.daemon("shop").run()
            assert url.split("?")[0] in str(caught.value)
            assert "shop, process" in str(caught.value)
            await shop.submit(JOB, "bank", contract=toy.contract(chunks=3))
            assert (await shop.wait(JOB)).outcome == "done"
            assert (await house.ended(bank, JOB)).outcome == "done"
        async with house.running(place.daemon("shop", journal_url=url)) as shop:
            assert (await shop.job(JOB)).outcome == "done"

    asyncio.run(story())


def _add(name: str):
    return lambda connection: connection.execute(insert(counters).values(job="", name=name, value=1))


def _names(connection: Connection) -> list[str]:
    return list(connection.scalars(select(counters.c.name).order_by(counters.c.name)))


def test_a_daemon_whose_session_was_lost_writes_nothing_while_another_one_has_the_journal():
    database = postgres.fresh_database()

    async def story():
        first, second = (ThreadedJournal(postgres.url(database), "shop") for _ in range(2))
        first.open()
        await first.write(_add("a"))
        with pytest.raises(JournalTaken):
            second.open()
        postgres.do("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = :n", n=database)
        second.open()
        await second.write(_add("b"))
        for _ in range(3):
            with pytest.raises(JournalUnavailable):
                await first.write(_add("c"))
        assert await second.read(_names) == ["a", "b"]
        second.close()
        await house.until(lambda: written(first))
        first.close()

    asyncio.run(story())


async def written(journal: ThreadedJournal) -> bool:
    """Whether the journal takes a unit again: the server notices a little later that the other session has ended."""
    try:
        await journal.write(_add("d"))
    except JournalUnavailable:
        return False
    return True


def test_a_job_with_journals_there_survives_kills_and_a_server_that_hangs_up_with_the_same_bytes(tmp_path):
    plain = parties(tmp_path / "plain")
    with embedded(plain):
        expected = run_job(plain, PROPOSAL)
    names = dict(zip(NAMES, fresh_parties("bank", "bureau"), strict=True))
    urls = {role: running_broker().amqp_url(name) for role, name in names.items()}
    paths = parties(tmp_path / "postgresql", urls, names)
    databases = [postgres.fresh_database() for _ in paths]
    for path, database in zip(paths, databases, strict=True):
        path.write_text(f'journal = "{postgres.url(database)}"\n{path.read_text()}')
    business, provider = (load_party(path) for path in paths)
    with processes(paths) as running, connect(business) as first, connect(provider):
        job = first.ask("submit", job={**PROPOSAL, "partner": f"{names[PROVIDER]}/features"})["job"]
        wait_for(first, job, until_stage="align")
        # The partner stands still, so the job cannot end before the kill.
        running[1].send_signal(signal.SIGSTOP)
        assert first.ask("job", id=job)["status"] == "running"
        os.kill(running[0].pid, signal.SIGKILL)
        running[0].wait()
        with (paths[0].parent / "log").open("ab") as output:
            running[0] = serve(paths[0], output)
        with connect(business) as again:
            running[1].send_signal(signal.SIGCONT)
            for database in databases:
                end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = :n"
                postgres.do(end, n=database)
            with connect(provider) as theirs:
                assert wait_for(theirs, job)["outcome"] == "done"
            assert wait_for(again, job)["outcome"] == "done"
            found = [
                (party.data_directory / "results" / job / "parameters.json").read_bytes()
                for party in (business, provider)
                if until((party.data_directory / "results" / job).exists, "results are written")
            ]
    assert found == [expected.parameters[role] for role in NAMES]
    assert b"recovered" in (paths[0].parent / "log").read_bytes()
