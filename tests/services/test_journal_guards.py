"""Guards of the journal: one daemon on it, no old copy of it, no running job without its secret."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from messages import unsequenced
from services.cli import app
from services.cli.failures import BAD_INPUT, guarded
from services.daemon.daemon import Daemon
from services.daemon.local import BUSINESS, NAMES
from services.store.journal import JournalUnavailable, ThreadedJournal, sqlite_url
from services.store.journal_lock import JournalTaken
from services.store.journal_mark import JournalMark, JournalRestored
from tests.services import house, toy
from tests.services.stranger import Stranger, bank_and_stranger, propose
from tests.services.test_local import parties

JOB = "job-1"

# -- one daemon on one journal -----------------------------------------------------------------------------------


@pytest.fixture
def town(threaded_town):
    """Threads take their time here as they do in a daemon."""
    return threaded_town


def opened(path: Path, party: str = "shop") -> ThreadedJournal:
    journal = ThreadedJournal(sqlite_url(path), party)
    journal.open()
    return journal


def test_a_second_daemon_on_a_journal_is_refused_from_another_data_directory_too(town, tmp_path):
    async def story():
        url = sqlite_url(tmp_path / "shared.sqlite")
        place = town(journal_url=url)
        other = house.Town(tmp_path / "elsewhere", fields={"workers": 0, "journal_url": url})
        async with house.running(place.daemon("shop")) as shop:
            with pytest.raises(JournalTaken) as caught:
                await other.daemon("shop").run()
            assert str(tmp_path / "shared.sqlite") in str(caught.value)
            assert f"shop, process {os.getpid()}" in str(caught.value)
            assert "two daemons on one journal" in str(caught.value)
            await shop.submit(JOB, "bank", contract=toy.contract())

    asyncio.run(story())


def test_a_link_to_a_journal_is_the_same_journal(tmp_path):
    journal = opened(tmp_path / "journal.sqlite")
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "journal.sqlite")
    with pytest.raises(JournalTaken):
        opened(tmp_path / "link.sqlite")
    journal.close()
    opened(tmp_path / "link.sqlite").close()


def test_a_process_that_is_killed_lets_its_journal_go(tmp_path):
    program = (
        "import sys, pathlib; from services.store.journal import ThreadedJournal, sqlite_url\n"
        "ThreadedJournal(sqlite_url(pathlib.Path(sys.argv[1])), 'shop').open(); print('open', flush=True); input()"
    )
    path = tmp_path / "journal.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"open\n"
    with pytest.raises(JournalTaken, match=f"process {process.pid}"):
        opened(path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    opened(path).close()


def test_a_refused_journal_can_be_opened_when_the_other_one_has_closed_it(tmp_path):
    first = opened(tmp_path / "journal.sqlite")
    second = ThreadedJournal(sqlite_url(tmp_path / "journal.sqlite"), "shop")
    with pytest.raises(JournalTaken):
        second.open()
    first.close()
    second.open()
    second.close()


def test_a_file_that_is_no_journal_is_named(tmp_path):
    (tmp_path / "journal.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(JournalUnavailable, match=r"journal\.sqlite cannot be opened: file is not a database"):
        opened(tmp_path / "journal.sqlite")


# -- no old copy -------------------------------------------------------------------------------------------------


def copy(directory: Path, aside: Path) -> Callable[[], object]:
    """Copy a journal as a backup does, with what is not yet in its main file; returns what puts it back."""
    aside.mkdir()
    for path in directory.glob("journal.sqlite*"):
        if not path.name.endswith((".lock", "-shm")):
            shutil.copy(path, aside)

    def put_back() -> None:
        for path in directory.glob("journal.sqlite*"):
            path.unlink()
        for path in aside.iterdir():
            shutil.copy(path, directory)

    return put_back


class Desk:
    """A data directory with a journal in it that is started, stopped, copied and put back."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.mark = JournalMark(directory / "journal.mark", "the-journal")

    def start(self, *, clean: bool = True, meanwhile: Callable[[], object] = lambda: None, **accept: object) -> None:
        """Start a daemon's guard and, if `clean`, stop as a daemon that was told to; else as one that was killed."""

        async def story() -> None:
            journal = opened(self.directory / "journal.sqlite")
            try:
                await self.mark.enter(journal, **accept)
                meanwhile()
                if clean:
                    await self.mark.leave(journal)
            finally:
                journal.close()

        asyncio.run(story())

    def copy(self, name: str) -> Callable[[], object]:
        """See `copy`."""
        return copy(self.directory, self.directory.with_name(f"{self.directory.name}-{name}"))


def test_a_journal_is_taken_again_after_clean_stops_and_kills(tmp_path):
    desk = Desk(tmp_path / "shop")
    for clean in (True, False, False, True, True):
        desk.start(clean=clean)


@pytest.mark.parametrize("clean", [True, False])
def test_a_copy_from_before_the_last_start_is_refused(tmp_path, clean):
    desk = Desk(tmp_path / "shop")
    desk.start()
    put_back = desk.copy("backup")
    desk.start(clean=clean)
    put_back()
    with pytest.raises(JournalRestored, match="old copy: it was restored from a backup") as caught:
        desk.start()
    assert "the-journal" in str(caught.value)
    assert "--accept-restored-journal" in str(caught.value)
    with pytest.raises(JournalRestored):
        desk.start()


def test_a_copy_made_while_the_daemon_ran_is_refused_after_its_stop(tmp_path):
    desk = Desk(tmp_path / "shop")
    copies: list[Callable[[], object]] = []
    desk.start(meanwhile=lambda: copies.append(desk.copy("backup")))
    copies[0]()
    with pytest.raises(JournalRestored, match="old copy"):
        desk.start()


def test_another_journal_and_an_empty_one_are_refused(tmp_path):
    ours, other = Desk(tmp_path / "shop"), Desk(tmp_path / "other")
    ours.start()
    other.start()
    put_back = ours.copy("backup")
    for path in ours.directory.glob("journal.sqlite*"):
        path.unlink()
    with pytest.raises(JournalRestored, match="new or empty"):
        ours.start()
    for path in ours.directory.glob("journal.sqlite*"):
        path.unlink()
    for path in other.directory.glob("journal.sqlite*"):
        shutil.copy(path, ours.directory)
    with pytest.raises(JournalRestored, match="not the one"):
        ours.start()
    put_back()
    ours.start()


def test_a_data_directory_older_than_its_journal_is_refused(tmp_path):
    desk = Desk(tmp_path / "shop")
    desk.start()
    mark = (desk.directory / "journal.mark").read_bytes()
    desk.start()
    (desk.directory / "journal.mark").write_bytes(mark)
    with pytest.raises(JournalRestored, match="older than its journal"):
        desk.start()
    (desk.directory / "journal.mark").unlink()
    with pytest.raises(JournalRestored, match="was lost"):
        desk.start()
    (desk.directory / "journal.mark").write_bytes(b"")
    with pytest.raises(JournalRestored, match="cannot be read"):
        desk.start()


def test_a_journal_that_was_accepted_is_the_right_one_from_then_on(tmp_path):
    desk = Desk(tmp_path / "shop")
    desk.start()
    put_back = desk.copy("backup")
    desk.start()
    put_back()
    told: list[str] = []
    desk.start(accept=lambda connection, wrong: told.append(wrong))
    assert len(told) == 1
    assert "old copy" in told[0]
    desk.start(accept=lambda connection, wrong: told.append(wrong))
    assert len(told) == 1
    put_back()
    with pytest.raises(JournalRestored):
        desk.start()


def test_a_death_between_mark_and_journal_refuses_nothing(tmp_path):
    """The mark announces, the journal commits, the mark confirms: torn at any place, the next start goes on."""
    desk = Desk(tmp_path / "shop")
    path = desk.directory / "journal.mark"

    async def torn() -> None:
        full = [OSError(28, "no space")]

        def sync() -> None:
            if full:
                raise full.pop()

        journal = ThreadedJournal(sqlite_url(desk.directory / "journal.sqlite"), "shop", before_commit=sync)
        journal.open()
        with pytest.raises(JournalUnavailable):
            await desk.mark.enter(journal)
        journal.close()

    asyncio.run(torn())
    assert b'"confirmed":false' in path.read_bytes()
    desk.start(clean=False)
    asyncio.run(torn())
    desk.start(clean=False)
    # Committed, and not confirmed.
    path.write_bytes(path.read_bytes().replace(b"true", b"false"))
    desk.start()


# -- a whole data directory that was restored --------------------------------------------------------------------


def restore(backup: Path, place: Path) -> None:
    shutil.rmtree(place)
    shutil.copytree(backup, place)


def test_a_data_directory_restored_under_a_running_job_is_noticed_by_what_it_had_sent(town, tmp_path):
    async def story():
        place = town()
        async with bank_and_stranger(place) as (bank, shop):
            await shop.say(JOB, propose(chunks=2), 1)
            await house.applied(bank, 1)
        shutil.copytree(tmp_path / "bank", tmp_path / "backup")
        async with bank_and_stranger(place) as (bank, shop):
            await shop.send_bulk(JOB, "link.terms", b"one", 2, chunks=2)
            await shop.send_bulk(JOB, "link.terms", b"two", 3, chunk=1, chunks=2)
            await house.until(lambda: "cross.term" in shop.kinds())
        restore(tmp_path / "backup", tmp_path / "bank")
        async with bank_and_stranger(place) as (bank, shop):
            await house.until(lambda: "receipt.request" in shop.kinds())
            await shop.say(JOB, unsequenced.Receipt(applied=4, credit=16), 0)
            view = await house.ended(bank, JOB)
            assert (view.status, view.reason_code) == ("frozen", "receipt_ahead")
            assert "old copy" in view.reason
            await house.until(lambda: "job.frozen" in shop.kinds())
            assert shop.last("job.frozen").reason_code == "receipt_ahead"

    asyncio.run(story())


@pytest.mark.parametrize("who", ["shop", "bank"])
def test_a_restored_data_directory_freezes_the_job_and_the_partner_s_fails_with_the_reason(town, tmp_path, who):
    async def story():
        place = town(functions="tests.services.idle_tasks")
        async with house.running(place.daemon("shop")) as shop:
            await shop.submit(JOB, "bank", contract=toy.contract(chunks=4))
        if who == "bank":  # its journal has a job, and no message of it but the first
            async with place.both() as (_, bank):
                await house.applied(bank, 1)
        shutil.copytree(tmp_path / who, tmp_path / "backup")
        # From here on tasks are done: the copy lacks what both have said and receipted to each other.
        place = town()
        async with place.both() as (shop, bank):
            await shop.wait(JOB)
            await house.ended(bank, JOB)
        restore(tmp_path / "backup", tmp_path / who)
        async with place.both() as daemons:
            mine, theirs = daemons if who == "shop" else daemons[::-1]
            view = await house.ended(mine, JOB)
            assert view.status == "frozen"
            assert view.reason_code in ("receipt_ahead", "receipt_lost")
            assert "the journal is an old copy" in view.reason
            assert (await theirs.job(JOB)).outcome == "done"

    asyncio.run(story())


def test_a_copy_that_only_lacks_what_it_had_received_is_noticed_too(town, tmp_path):
    async def story():
        place = town(functions="tests.services.idle_tasks")
        async with bank_and_stranger(place) as (bank, shop):
            await shop.say(JOB, propose(chunks=40), 1)
            await house.applied(bank, 1)
        shutil.copytree(tmp_path / "bank", tmp_path / "backup")
        async with bank_and_stranger(place) as (bank, shop):
            await shop.send_bulk(JOB, "link.terms", b"one", 2, chunks=40)
            await house.applied(bank, 2)
        restore(tmp_path / "backup", tmp_path / "bank")
        async with bank_and_stranger(place) as (bank, shop):
            await house.until(lambda: "receipt.request" in shop.kinds())
            await shop.say(JOB, unsequenced.ReceiptHeld(receipted=2), 0)
            view = await house.ended(bank, JOB)
            assert (view.status, view.reason_code) == ("frozen", "receipt_lost")
            assert "our receipts for 2 messages" in view.reason

    asyncio.run(story())


def test_a_journal_that_lost_a_whole_job_says_so_and_does_not_begin_it_anew(town):
    async def story():
        place = town()
        async with house.running(place.daemon("bank")) as bank, Stranger(place.broker, "shop") as shop:
            await shop.say(JOB, unsequenced.ReceiptHeld(receipted=3), 0)
            await house.until(lambda: "job.frozen" in shop.kinds())
            assert shop.last("job.frozen").reason_code == "job_lost"
            assert await bank.jobs() == []
            assert await bank.parked_codes() == {"job_lost": 1}

    asyncio.run(story())


def test_a_job_ends_here_with_the_reason_when_the_partner_has_frozen_it(town, tmp_path):
    async def story():
        place = town()
        async with house.running(place.daemon("shop")) as shop:
            await shop.submit(JOB, "bank", contract=toy.contract())
        async with place.both() as (shop, bank):
            await house.ended(bank, JOB)
            await shop.wait(JOB)
        for path in (tmp_path / "bank").glob("journal.*"):
            path.unlink()
        async with house.running(place.daemon("shop")) as shop:
            await shop.submit("job-2", "bank", contract=toy.contract(trouble="spin", times=30))
            async with Stranger(place.broker, "bank") as bank:
                await house.until(lambda: "job.propose" in bank.kinds())
                await bank.say("job-2", unsequenced.JobFrozen(reason_code="receipt_lost"), 0)
                view = await shop.wait("job-2")
                assert (view.outcome, view.reason_code) == ("failed", "partner_frozen")
                assert view.reason == "bank cannot go on with this job (receipt_lost) and has frozen it"
                assert "job.failed" not in bank.kinds()

    asyncio.run(story())


def test_an_operator_who_accepts_a_restored_journal_freezes_what_ran_and_goes_on(town, tmp_path):
    async def story():
        place = town(functions="tests.services.idle_tasks")
        async with house.running(place.daemon("shop")) as shop:
            await shop.submit(JOB, "bank", contract=toy.contract())
        put_back = copy(tmp_path / "shop", tmp_path / "backup")
        async with place.both() as (shop, bank):
            await house.applied(bank, 1)
        put_back()
        with pytest.raises(JournalRestored, match="old copy"):
            await place.daemon("shop").run()
        place = town()
        async with (
            house.running(place.daemon("shop", accept_restored=True)) as shop,
            house.running(place.daemon("bank")) as bank,
        ):
            view = await shop.job(JOB)
            assert (view.status, view.reason_code) == ("frozen", "journal_restored")
            assert "restored from a backup" in view.reason
            theirs = await house.ended(bank, JOB)
            assert (theirs.outcome, theirs.reason_code) == ("failed", "partner_frozen")
            assert "journal_restored" in theirs.reason
            assert str(tmp_path) not in theirs.reason
            await shop.submit("job-2", "bank", contract=toy.contract())
            assert (await shop.wait("job-2")).outcome == "done"
        async with house.running(place.daemon("shop")) as shop:
            assert (await shop.job(JOB)).status == "frozen"

    asyncio.run(story())


# -- the command line --------------------------------------------------------------------------------------------


def serve(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["warren", "serve", str(path)])
    before = structlog.get_config()
    try:
        return guarded(app)
    finally:
        structlog.configure(**before)


def test_serve_says_in_one_sentence_that_a_journal_is_taken_or_restored(tmp_path, monkeypatch, capsys):
    (path, _), data = parties(tmp_path / "parties"), tmp_path / "parties" / "business" / "data"
    journal = data / "journal.sqlite"
    data.mkdir()
    first = opened(journal, NAMES[BUSINESS])
    assert serve(path, monkeypatch) == BAD_INPUT
    told = capsys.readouterr().err.splitlines()[-1]
    assert str(journal) in told
    assert "two daemons on one journal" in told
    asyncio.run(JournalMark(data / "journal.mark", "").enter(first))
    first.close()
    (data / "journal.mark").unlink()
    assert serve(path, monkeypatch) == BAD_INPUT
    told = capsys.readouterr().err.splitlines()[-1]
    assert "restored from a backup" in told
    assert "--accept-restored-journal" in told


# -- secrets -----------------------------------------------------------------------------------------------------


def test_a_running_job_without_its_secret_fails_with_a_reason_and_the_partner_is_told_less(town, tmp_path):
    async def story():
        place = town(functions="tests.services.idle_tasks")
        async with place.both() as (shop, bank):
            for job in (JOB, "job-2"):
                await shop.submit(job, "bank", contract=toy.contract())
            await house.until(lambda: both_there(bank))
        (tmp_path / "bank" / "secrets" / JOB).unlink()
        place = town()
        async with place.both() as (shop, bank):
            view = await house.ended(bank, JOB)
            assert (view.outcome, view.reason_code) == ("failed", "secret_missing")
            assert str(tmp_path / "bank" / "secrets" / JOB) in view.reason
            assert "submit the job anew" in view.reason
            theirs = await shop.wait(JOB)
            assert (theirs.outcome, theirs.reason_code) == ("failed", "secret_missing")
            assert str(tmp_path) not in theirs.reason
            assert (await shop.wait("job-2")).outcome == "done"

    asyncio.run(story())


async def both_there(bank: Daemon) -> bool:
    return len(await bank.jobs()) == 2


def test_a_daemon_that_finds_no_room_on_the_disk_waits_with_its_start(town, tmp_path):
    async def story():
        place = town()
        async with house.running(place.daemon("shop")) as shop:
            await shop.submit(JOB, "bank", contract=toy.contract())
        daemon = place.daemon("shop")
        journal = daemon.journal
        trouble = [OSError(28, "no space")] * 3
        sync = journal._transactions._before_commit

        def full() -> None:
            if trouble:
                raise trouble.pop()
            sync()

        journal._transactions._before_commit = full
        with capture_logs() as lines:
            async with house.running(daemon) as shop:
                assert (await shop.job(JOB)).status == "running"
        assert sum(line["event"].startswith("cannot start yet") for line in lines) >= 1
        assert not trouble

    asyncio.run(story())
