"""The steps on their own: what they leave is what a new journal would be, on SQLite and on PostgreSQL."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, insert, select

from services.daemon.local import BUSINESS, NAMES, PROVIDER
from services.store import schema_steps
from services.store.journal import JournalUnavailable, ThreadedJournal, sqlite_url
from services.store.journal_schema import SCHEMA_VERSION, meta, outbox
from services.store.migrations import copies_of, copy_of
from tests import postgres
from tests.migration.former import Former, carry_over, rows, shape, unpack

FORMER = range(1, SCHEMA_VERSION)


def bring_up(url: str, party: str) -> None:
    journal = ThreadedJournal(url, party)
    journal.open()
    journal.close()


def with_held_message(former: Former) -> None:
    """Nothing was ahead of its turn when the files were made: let something be."""
    with closing(sqlite3.connect(former.journal(PROVIDER))) as journal:
        sender = ", ?" if former.schema > 1 else ""
        values = (former.jobs["running"], *([NAMES[BUSINESS]] if sender else []), 99)
        journal.execute(f"INSERT INTO held VALUES (?{sender}, ?, 0, x'01', x'02', x'03', x'04', 5)", values)
        journal.commit()


def test_there_is_a_step_to_every_schema_and_there_are_files_of_every_former_one():
    assert [step.schema for step in schema_steps.STEPS] == list(range(2, SCHEMA_VERSION + 1))
    here = Path(__file__).parent
    assert {path.name for path in here.glob("schema-*.tar.xz")} == {f"schema-{schema}.tar.xz" for schema in FORMER}


@pytest.mark.parametrize("schema", FORMER)
def test_a_journal_that_was_brought_up_has_the_shape_of_a_new_one(tmp_path, schema):
    former = unpack(schema, tmp_path)
    bring_up(sqlite_url(former.journal(BUSINESS)), NAMES[BUSINESS])
    bring_up(sqlite_url(tmp_path / "new"), NAMES[BUSINESS])
    made, new = (create_engine(sqlite_url(path)) for path in (former.journal(BUSINESS), tmp_path / "new"))
    assert shape(made) == shape(new)


@pytest.mark.parametrize("schema", FORMER)
def test_at_postgresql_the_same_rows_and_the_same_shape_come_out_and_counting_goes_on(tmp_path, schema):
    former = unpack(schema, tmp_path)
    with_held_message(former)
    url, fresh = (postgres.url(postgres.fresh_database()) for _ in range(2))
    carry_over(former.journal(PROVIDER), url)
    for place in (url, sqlite_url(former.journal(PROVIDER))):
        bring_up(place, NAMES[PROVIDER])
    bring_up(fresh, NAMES[PROVIDER])
    assert shape(create_engine(url)) == shape(create_engine(fresh))
    with (
        create_engine(url).connect() as there,
        create_engine(sqlite_url(former.journal(PROVIDER))).connect() as here,
    ):
        assert rows(there) == rows(here)
        held = rows(here)["held"]
        assert [row["sender"] for row in held] == [NAMES[BUSINESS]]
        last = max(row["id"] for row in rows(there)["outbox"])
        row = {key: value for key, value in rows(there)["outbox"][0].items() if key != "id"}
        there.execute(insert(outbox), row)
        assert there.scalar(select(outbox.c.id).order_by(outbox.c.id.desc()).limit(1)) == last + 1


def test_what_was_counted_by_job_is_counted_for_its_one_partner(tmp_path):
    former = unpack(1, tmp_path)
    with closing(sqlite3.connect(former.journal(BUSINESS))) as journal:
        counted = "applied, sent, receipted, bulk_received, bulk_consumed, bulk_sent, credit, unreceipted_bytes, late"
        before = journal.execute(f"SELECT job, partner, 0, {counted} FROM jobs ORDER BY job").fetchall()
    bring_up(sqlite_url(former.journal(BUSINESS)), NAMES[BUSINESS])
    with closing(sqlite3.connect(former.journal(BUSINESS))) as journal:
        assert len(before) == 3
        assert journal.execute(f"SELECT job, partner, place, {counted} FROM lines ORDER BY job").fetchall() == before
        tasks = journal.execute("SELECT DISTINCT partner FROM tasks").fetchall()
        assert tasks == [(NAMES[PROVIDER],)]


def schema_of(path: Path) -> str:
    with create_engine(sqlite_url(path)).connect() as connection:
        return connection.scalar(select(meta.c.value).where(meta.c.key == "schema"))


def test_a_step_that_fails_leaves_the_journal_as_it_was(tmp_path):
    former = unpack(1, tmp_path)
    journal = former.journal(PROVIDER)
    with closing(sqlite3.connect(journal)) as damaged:
        # A message of no job has no partner to be for.
        damaged.execute("UPDATE outbox SET job = 'nobody'")
        damaged.commit()
        before = list(damaged.iterdump())
    with pytest.raises(JournalUnavailable, match="NOT NULL"):
        bring_up(sqlite_url(journal), NAMES[PROVIDER])
    with closing(sqlite3.connect(journal)) as damaged:
        assert list(damaged.iterdump()) == before


def test_without_a_copy_nothing_is_changed(tmp_path):
    former = unpack(1, tmp_path)
    journal = former.journal(BUSINESS)
    copy_of(journal, "1").mkdir()
    with pytest.raises(JournalUnavailable, match=r"has to be copied before .*nothing was changed"):
        bring_up(sqlite_url(journal), NAMES[BUSINESS])
    assert schema_of(journal) == "1"
    copy_of(journal, "1").rmdir()
    bring_up(sqlite_url(journal), NAMES[BUSINESS])
    assert schema_of(journal) == str(SCHEMA_VERSION)
    assert len(copies_of(journal)) == 1


def test_who_goes_back_to_the_version_before_has_the_copy_and_may_come_again(tmp_path):
    former = unpack(1, tmp_path)
    journal = former.journal(BUSINESS)
    with closing(sqlite3.connect(journal)) as connection:
        before = list(connection.iterdump())
    bring_up(sqlite_url(journal), NAMES[BUSINESS])
    copy_of(journal, "1").replace(journal)
    with closing(sqlite3.connect(journal)) as connection:
        assert list(connection.iterdump()) == before
    bring_up(sqlite_url(journal), NAMES[BUSINESS])
    assert schema_of(journal) == str(SCHEMA_VERSION)
