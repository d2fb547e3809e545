"""A PostgreSQL that goes away in the middle of something: of a unit of work, of a COMMIT, of a whole job."""

import asyncio
import random
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, insert, select, text

from services.daemon.daemon import Daemon
from services.store.journal import JournalUnavailable, ThreadedJournal
from services.store.journal_schema import counters
from tests import postgres
from tests.broken_line import Break, broken_line
from tests.services import house, toy

JOB = "job-1"


def _add(name: str) -> Callable[[Connection], str]:
    def unit(connection: Connection) -> str:
        connection.execute(insert(counters).values(job="", name=name, value=1))
        return name

    return unit


def _names(connection: Connection) -> list[str]:
    return list(connection.scalars(select(counters.c.name).order_by(counters.c.name)))


class _Trap:
    """Breaks the line once, at the first request that `words` stand in after it was set.

    `stays_away`: it does so at every request from then on, until `stays_away` is taken back.
    """

    def __init__(self, *, stays_away: bool = False) -> None:
        self.words, self.where, self.sprung = b"", Break.REQUEST, 0
        self.stays_away = stays_away

    def set(self, words: bytes, where: Break) -> None:
        self.words, self.where = words, where

    def __call__(self, request: bytes) -> Break | None:
        if self.words and self.words in request:
            self.words, self.sprung = b"", self.sprung + 1
            return self.where
        return Break.REQUEST if self.stays_away and self.sprung else None


class _Own(Exception):
    """What a unit of work makes of whatever went wrong in it."""


@pytest.mark.parametrize("words", [b"INSERT", b"SAVEPOINT unit", b"ROLLBACK TO SAVEPOINT", b"RELEASE SAVEPOINT"])
@pytest.mark.parametrize("where", list(Break))
def test_a_server_that_goes_within_a_unit_of_work_is_away_and_no_fault_of_the_unit(words, where):
    """Units that were taken for faulty ended the daemon, or had the message that they were for set aside."""
    trap = _Trap()

    def own(connection: Connection) -> None:
        try:
            connection.execute(text("SELECT 1 / 0" if words.startswith(b"ROLLBACK") else "SELECT 1"))
            _add("own")(connection)
        except Exception as error:
            raise _Own from error

    async def story(url: str) -> None:
        journal = ThreadedJournal(url, "shop")
        journal.open()
        await journal.write(_add("first"))
        trap.set(words, where)
        told, beside = await asyncio.gather(journal.write(own), journal.write(_add("beside")), return_exceptions=True)
        assert trap.sprung == 1
        assert isinstance(told, JournalUnavailable)
        assert beside == "beside" or isinstance(beside, JournalUnavailable)  # in the same transaction or after it
        await journal.write(_add("later"))
        assert await journal.read(_names) == (["beside"] if beside == "beside" else []) + ["first", "later"]
        journal.close()

    with broken_line(postgres.fresh_database(), trap) as url:
        asyncio.run(story(url))


def test_a_unit_whose_commit_got_no_answer_is_told_what_has_become_of_it():
    trap = _Trap()

    async def story(url: str) -> None:
        journal = ThreadedJournal(url, "shop")
        journal.open()
        trap.set(b"COMMIT", Break.ANSWER)
        assert await journal.write(_add("happened")) == "happened"
        trap.set(b"COMMIT", Break.REQUEST)
        with pytest.raises(JournalUnavailable):
            await journal.write(_add("did not"))
        assert trap.sprung == 2
        assert await journal.read(_names) == ["happened"]
        journal.close()

    with broken_line(postgres.fresh_database(), trap) as url:
        asyncio.run(story(url))


def test_while_a_commit_is_in_doubt_its_callers_wait_and_whoever_asks_is_told_that_the_server_is_away():
    trap = _Trap(stays_away=True)

    async def story(url: str) -> None:
        journal = ThreadedJournal(url, "shop")
        journal.open()
        trap.set(b"COMMIT", Break.ANSWER)
        unit = asyncio.ensure_future(journal.write(_add("happened")))
        await house.until(lambda: journal.away)
        assert not unit.done()
        trap.stays_away = False
        assert await unit == "happened"
        await house.until(lambda: journal.away is None)
        journal.close()

    with broken_line(postgres.fresh_database(), trap) as url:
        asyncio.run(story(url))


def test_a_journal_that_is_closed_while_a_commit_is_in_doubt_says_that_it_does_not_know_of_it():
    trap = _Trap(stays_away=True)

    async def story(url: str) -> None:
        journal = ThreadedJournal(url, "shop")
        journal.open()
        trap.set(b"COMMIT", Break.ANSWER)
        unit = asyncio.ensure_future(journal.write(_add("happened")))
        await house.until(lambda: journal.away)
        await asyncio.to_thread(journal.close)
        with pytest.raises(JournalUnavailable):
            await unit

    with broken_line(postgres.fresh_database(), trap) as url:
        asyncio.run(story(url))


async def _submitted(daemon: Daemon, job: str, contract: bytes) -> bool:
    """Whether a job is there; who is told that nothing happened asks again."""
    try:
        await daemon.submit(job, "bank", contract=contract)
    except JournalUnavailable:
        return False
    return True


@pytest.mark.parametrize("seed", range(4))
def test_jobs_over_lines_that_break_anywhere_end_as_undisturbed_ones_do(tmp_path, seed):
    chance = random.Random(seed)
    breaks = {place: 0 for place in Break}
    begun = False

    def decide(request: bytes) -> Break | None:
        place = None
        if begun and b"COMMIT" in request and chance.random() < 0.15:
            place = Break.ANSWER
        elif begun and chance.random() < 0.01:
            place = chance.choice(list(Break))
        if place is not None:
            breaks[place] += 1
        return place

    async def story(*urls: str) -> None:
        nonlocal begun
        place = house.Town(tmp_path, fields={"workers": 0})
        contract = toy.contract(chunks=3, iterations=2)
        async with (
            house.running(place.daemon("shop", journal_url=urls[0])) as shop,
            house.running(place.daemon("bank", journal_url=urls[1])) as bank,
        ):
            results = []
            for job in ("calm", "rough"):
                begun = job == "rough"
                await house.until(lambda job=job: _submitted(shop, job, contract))
                async with asyncio.timeout(50):
                    for daemon in (shop, bank):
                        view = await house.ended(daemon, job)
                        assert view.outcome == "done"
                        results.append(view.results)
                begun = False
            assert await shop.parked_codes() == await bank.parked_codes() == {}
            assert results[:2] == results[2:]

    with (
        broken_line(postgres.fresh_database(), decide) as first,
        broken_line(postgres.fresh_database(), decide) as second,
    ):
        asyncio.run(story(first, second))
    assert all(breaks.values()), breaks
