"""The journal's file does not keep the room of what is no longer in it."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, delete, insert

from services.engine.archiving import PAGES_FREED_AT_ONCE, give_back
from services.store.journal import ThreadedJournal, sqlite_url
from services.store.journal_schema import purged

ROWS = 60_000


def fill(connection: Connection) -> None:
    connection.execute(
        insert(purged), [{"job": "job-1", "position": place, "digest": bytes(64)} for place in range(ROWS)]
    )


def pages(path: Path) -> int:
    with closing(sqlite3.connect(path)) as journal:
        journal.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size // 4096


def test_what_is_archived_gives_its_room_back_a_piece_at_a_time(tmp_path):
    path = tmp_path / "journal.sqlite"

    async def story():
        journal = ThreadedJournal(sqlite_url(path), "shop")
        journal.open()
        empty = pages(path)
        await journal.write(fill)
        full = pages(path)
        assert full > empty + 2 * PAGES_FREED_AT_ONCE // 2
        await journal.write(lambda connection: connection.execute(delete(purged)))
        assert pages(path) >= full
        left = await journal.write(give_back)
        assert left > 0
        while left:
            before, left = left, await journal.write(give_back)
            assert before - left <= PAGES_FREED_AT_ONCE
        assert pages(path) <= empty + 2
        journal.close()

    asyncio.run(story())


def test_a_file_from_before_is_made_anew_once_and_keeps_what_is_in_it(tmp_path):
    path = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(path)) as former:
        former.execute("CREATE TABLE other (name TEXT)")
        former.execute("INSERT INTO other VALUES ('kept')")
        former.commit()
    journal = ThreadedJournal(sqlite_url(path), "shop")
    journal.open()
    journal.close()
    with closing(sqlite3.connect(path)) as after:
        assert after.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert after.execute("SELECT name FROM other").fetchone() == ("kept",)
