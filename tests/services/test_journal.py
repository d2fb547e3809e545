"""The journal, in a file and at a PostgreSQL: group commit, isolation of units, durability settings, a full disk."""

import asyncio
import functools
import sqlite3
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, insert, select, text
from structlog.testing import capture_logs

from services.engine import jobs
from services.store.data_directory import DataDirectory, DirectoryLocked
from services.store.journal import JournalClosed, JournalForeign, JournalUnavailable, ThreadedJournal, sqlite_url
from services.store.journal_schema import SCHEMA_VERSION, counters
from tests import postgres
from tests.services import house


def _add(name: str, value: int = 1):
    return lambda connection: connection.execute(insert(counters).values(job="", name=name, value=value))


def _names(connection: Connection) -> list[str]:
    return list(connection.scalars(select(counters.c.name).order_by(counters.c.name)))


Open = Callable[..., ThreadedJournal]


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request, tmp_path) -> Open:
    """Opens one and the same journal, in a file and at a server."""
    if request.param == "sqlite":
        return functools.partial(_open, sqlite_url(tmp_path / "journal.sqlite"))
    return functools.partial(_open, postgres.url(postgres.fresh_database()))


def _open(url: str, party: str = "shop", **fields) -> ThreadedJournal:
    journal = ThreadedJournal(url, party, **fields)
    journal.open()
    return journal


def test_a_unit_that_fails_is_undone_and_takes_no_other_with_it(opened):
    async def story():
        journal = opened()

        def fails(connection: Connection) -> None:
            _add("bad")(connection)
            raise LookupError("no")

        done = await asyncio.gather(
            *(journal.write(work) for work in (_add("a"), fails, _add("b"), _add("a"))), return_exceptions=True
        )
        assert isinstance(done[1], LookupError)
        assert type(done[3]).__name__ == "IntegrityError"
        assert await journal.read(_names) == ["a", "b"]
        journal.close()

    asyncio.run(story())


def test_units_that_wait_share_one_transaction_but_never_more_than_thirty_two(opened, monkeypatch):
    # However slow the machine: what ends a transaction here is the number of its units.
    monkeypatch.setattr("services.store.journal.TRANSACTION_SECONDS_MAX", 60.0)

    async def story():
        journal = opened()
        gate = threading.Event()
        first = asyncio.ensure_future(journal.write(lambda _: gate.wait(10)))
        waiting = [asyncio.ensure_future(journal.write(_add(f"{number:03}"))) for number in range(100)]
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.gather(first, *waiting)
        assert 4 <= journal.cost.commits <= 5
        assert len(await journal.read(_names)) == 100
        journal.close()

    asyncio.run(story())


def test_nothing_is_answered_before_the_commit(opened):
    async def story():
        seen: list[str] = []
        journal = opened(before_commit=lambda: seen.append("commit"))
        await journal.write(lambda _: seen.append("unit"))
        seen.append("answer")
        assert seen == ["unit", "commit", "answer"]
        journal.close()

    asyncio.run(story())


def test_a_failed_sync_rolls_back_and_the_next_unit_works(opened):
    async def story():
        trouble = [OSError("no space")]

        def sync() -> None:
            if trouble:
                raise trouble.pop()

        journal = opened(before_commit=sync)
        with pytest.raises(JournalUnavailable):
            await journal.write(_add("lost"))
        await journal.write(_add("kept"))
        assert await journal.read(_names) == ["kept"]
        journal.close()

    asyncio.run(story())


def test_a_full_disk_refuses_units_and_works_again_when_there_is_room(tmp_path):
    async def story():
        journal = _open(sqlite_url(tmp_path / "journal.sqlite"))
        pages = await journal.write(lambda connection: connection.scalar(text("PRAGMA page_count")))
        await journal.write(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages}"))
        with pytest.raises(JournalUnavailable):
            await journal.write(lambda c: [_add(f"{number}" * 20)(c) for number in range(2000)])
        await journal.write(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count=100000"))
        await journal.write(_add("kept"))
        assert await journal.read(_names) == ["kept"]
        journal.close()

    asyncio.run(story())


def test_a_transaction_that_cannot_even_begin_is_an_answer_to_all_who_wait_for_it(tmp_path):
    async def story():
        journal = _open(sqlite_url(tmp_path / "journal.sqlite"))
        await journal.write(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout=0").close())
        holder = sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        for name in ("lost", "lost too"):
            with pytest.raises(JournalUnavailable):
                await journal.write(_add(name))
        holder.close()
        await journal.write(_add("kept"))
        assert await journal.read(_names) == ["kept"]
        journal.close()

    asyncio.run(story())


def test_the_journal_survives_power_cuts_by_its_settings(tmp_path):
    async def story():
        journal = _open(sqlite_url(tmp_path / "journal.sqlite"))

        def settings(connection: Connection) -> tuple[str, int]:
            return (
                connection.scalar(text("PRAGMA journal_mode")),
                connection.scalar(text("PRAGMA synchronous")),
            )

        assert await journal.write(settings) == ("wal", 2)
        journal.close()

    asyncio.run(story())


def test_a_server_that_takes_no_writes_refuses_units_and_works_again_when_it_does():
    database = postgres.fresh_database()

    async def story():
        journal = _open(postgres.url(database))
        await journal.write(lambda c: c.exec_driver_sql("SET default_transaction_read_only = on"))
        for name in ("lost", "lost too"):
            with pytest.raises(JournalUnavailable):
                await journal.write(_add(name))
        end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = :n"
        postgres.do(end, n=database)
        await house.until(functools.partial(_taken, journal, "kept"))
        assert await journal.read(_names) == ["kept"]
        journal.close()

    asyncio.run(story())


async def _taken(journal: ThreadedJournal, name: str) -> bool:
    """Whether the journal takes a unit: it notices by the next one that its session is gone."""
    try:
        await journal.write(_add(name))
    except JournalUnavailable:
        return False
    return True


def test_reads_wait_for_a_server_that_went_away_and_end_with_the_journal(tmp_path):
    database = postgres.fresh_database()
    gone = f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS"
    end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = :n"

    async def story():
        journal = _open(postgres.url(database))
        await journal.write(_add("kept"))
        postgres.do(f"{gone} false")
        postgres.do(end, n=database)
        reading = asyncio.ensure_future(journal.read(_names))
        with capture_logs() as lines:
            await house.until(lambda: any(line["event"] == "journal cannot be read" for line in lines))
        assert not reading.done()
        postgres.do(f"{gone} true")
        assert await reading == ["kept"]
        postgres.do(f"{gone} false")
        postgres.do(end, n=database)
        late = asyncio.ensure_future(journal.read(_names))
        await asyncio.sleep(0)
        await asyncio.to_thread(journal.close)
        with pytest.raises(JournalClosed):
            await late

    asyncio.run(story())


def test_a_commit_at_a_server_is_durable_whatever_the_server_is_told_otherwise():
    database = postgres.fresh_database()
    postgres.do(f"ALTER DATABASE {database} SET synchronous_commit = off")

    async def story():
        journal = _open(postgres.url(database))
        assert await journal.write(lambda c: c.scalar(text("SHOW synchronous_commit"))) == "on"
        journal.close()

    asyncio.run(story())


def test_what_was_handed_in_is_finished_on_close_and_nothing_after_it(opened):
    async def story():
        journal = opened()
        pending = [asyncio.ensure_future(journal.write(_add(f"{number:02}"))) for number in range(40)]
        await asyncio.sleep(0)
        await asyncio.to_thread(journal.close)
        await asyncio.gather(*pending)
        with pytest.raises(JournalClosed):
            await journal.write(_add("late"))
        again = opened()
        assert len(await again.read(_names)) == 40
        again.close()

    asyncio.run(story())


def test_what_is_counted_for_ever_has_room_for_more_than_four_thousand_million(opened):
    async def story():
        journal = opened()
        for _ in range(3):
            await journal.write(lambda c: jobs.count(c, "job-1", "bytes_received", 2**31 - 1))
        assert await journal.read(lambda c: jobs.statistics(c, "job-1")) == {"bytes_received": 3 * (2**31 - 1)}
        journal.close()

    asyncio.run(story())


def test_a_journal_that_was_closed_is_free_at_once(opened):
    async def story():
        for number in range(5):
            journal = opened()
            await journal.write(_add(f"{number}"))
            await asyncio.to_thread(journal.close)

    asyncio.run(story())


def test_a_journal_of_another_party_is_not_opened(opened):
    opened().close()
    with pytest.raises(JournalForeign, match="shop"):
        opened("bank")


@pytest.mark.parametrize("schema", ["0", str(SCHEMA_VERSION + 1), "3a", ""])
def test_a_journal_of_a_schema_that_nothing_leads_from_is_refused_with_what_to_do_and_left_as_it_is(tmp_path, schema):
    _open(sqlite_url(tmp_path / "journal.sqlite")).close()
    path = tmp_path / "journal.sqlite"
    with sqlite3.connect(path) as old:
        old.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (schema,))
        old.execute("DROP TABLE lines")
    with pytest.raises(JournalForeign, match=rf"schema {schema}, .* run the version that wrote it, or a newer one"):
        ThreadedJournal(sqlite_url(path), "shop").open()
    with sqlite3.connect(path) as old:
        assert old.execute("SELECT count(*) FROM sqlite_master WHERE name = 'lines'").fetchone() == (0,)


def test_a_data_directory_has_one_daemon(tmp_path):
    with DataDirectory(tmp_path / "shop"), pytest.raises(DirectoryLocked, match="shop"):
        DataDirectory(tmp_path / "shop")
    DataDirectory(tmp_path / "shop").close()


def test_other_users_are_kept_out_of_a_data_directory_that_was_there_before(tmp_path):
    (tmp_path / "shop").mkdir(mode=0o755)
    (tmp_path / "shop").chmod(0o755)
    with DataDirectory(tmp_path / "shop") as directory:
        assert directory.root.stat().st_mode & 0o777 == 0o700
