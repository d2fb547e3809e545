"""A journal at PostgreSQL: whole jobs, and one daemon on it, whatever becomes of its sessions."""

import asyncio
import time

import pytest
from sqlalchemy import Connection, insert, select

from services.audit.exporting import reading
from services.cli import app
from services.cli.failures import UNREACHABLE, exit_code_of, guarded
from services.daemon.control import JOURNAL_AWAY, ControlError
from services.daemon.local import NAMES, PROVIDER, connect, embedded, processes, wait_for
from services.party.configuration import load_party
from services.store.journal import JournalUnavailable, ThreadedJournal
from services.store.journal_lock import JournalTaken
from services.store.journal_schema import counters, jobs
from tests import postgres
from tests.parties import until
from tests.rabbitmq import fresh_parties, running_broker
from tests.services import house, toy
from tests.services.quick import JOB as SMALL
from tests.services.quick import parties
from tests.services.sickroom import daemon_of

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


HANG_UP = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = :n"


def test_a_job_with_journals_there_survives_a_kill_and_a_server_that_hangs_up_with_the_same_bytes(tmp_path):
    names = dict(zip(NAMES, fresh_parties("bank", "bureau"), strict=True))
    urls = {role: running_broker().amqp_url(name) for role, name in names.items()}
    paths = parties(tmp_path / "place", urls, names)
    databases = [postgres.fresh_database() for _ in paths]
    for path, database in zip(paths, databases, strict=True):
        path.write_text(f'journal = "{postgres.url(database)}"\n{path.read_text()}')
    business, provider = (load_party(path) for path in paths)
    proposal = {**PROPOSAL, "partner": f"{names[PROVIDER]}/features"}
    with daemon_of(paths[1]), connect(provider) as theirs:
        with processes(paths[:1]) as [process], connect(business) as first:
            job = first.ask("submit", job=proposal)["job"]
            wait_for(first, job, until_stage="align")
            process.kill()
            process.wait()
        with reading(business) as connection:
            assert connection.scalar(select(jobs.c.status).where(jobs.c.job == job)) == "running"
        with processes(paths[:1]), connect(business) as again:
            for database in databases:
                postgres.do(HANG_UP, n=database)
            assert wait_for(theirs, job)["outcome"] == "done"
            assert wait_for(again, job)["outcome"] == "done"
            undisturbed = again.ask("submit", job=proposal)["job"]
            for client in (again, theirs):
                assert wait_for(client, undisturbed)["outcome"] == "done"
            for party in (business, provider):
                results = [party.data_directory / "results" / name / "parameters.json" for name in (job, undisturbed)]
                until(lambda results=results: all(path.exists() for path in results), "results are written")
                assert results[0].read_bytes() == results[1].read_bytes()


OPEN = "ALTER DATABASE {} ALLOW_CONNECTIONS {}"


def test_while_the_server_is_away_commands_say_so_at_once_and_who_waits_for_a_job_goes_on(
    tmp_path, capsys, monkeypatch
):
    paths = parties(tmp_path / "place")
    database = postgres.fresh_database()
    paths[0].write_text(f'journal = "{postgres.url(database)}"\n{paths[0].read_text()}')
    business = load_party(paths[0])
    with embedded(paths), connect(business) as client:
        job = client.ask("submit", job=PROPOSAL)["job"]
        postgres.do(OPEN.format(database, "false"))
        postgres.do(HANG_UP, n=database)
        for verb, arguments in (("jobs", {}), ("job", {"id": job}), ("status", {})):
            began = time.monotonic()
            with pytest.raises(ControlError, match=rf"journal postgresql\S*{database}.* since \d+ s: ") as caught:
                client.ask(verb, **arguments)
            assert caught.value.code == JOURNAL_AWAY
            assert time.monotonic() - began < 10
        # Where the server went away at a commit, the journal waits to hear what became of that first.
        with pytest.raises(ControlError, match=r"journal cannot commit|the daemon waits for its journal") as caught:
            client.ask("cancel", id="nothing")
        assert exit_code_of(caught.value) == UNREACHABLE
        assert client.ask("logs", id=job)
        monkeypatch.setattr("sys.argv", ["warren", "jobs", "--party", str(paths[0])])
        assert guarded(app) == UNREACHABLE
        assert "goes on by itself" in capsys.readouterr().err
        seen: list[str] = []

        def look(view):
            if not view.get("disk", {}).get("ok", True) and not seen:
                seen.append(view["disk"]["detail"])
                postgres.do(OPEN.format(database, "true"))

        assert wait_for(client, job, look)["outcome"] == "done"
        assert database in seen[0]
