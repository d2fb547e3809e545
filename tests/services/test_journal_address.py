"""The key `journal` of party.toml: what names no journal is refused with the key, before anything is opened."""

from pathlib import Path

import pytest

from services.daemon.local import BUSINESS
from services.doctor.checkup import examine
from services.party.configuration import ConfigError, load_party
from services.party.journal_address import JournalUnfit, check_journal
from services.store.journal import JournalUnavailable, ThreadedJournal, sqlite_url
from tests import postgres
from tests.parties import example_tables, make_parties

SECRET = "hush-hush"
OTHERS = f"postgresql+psycopg://warren:{SECRET}@db.example"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (SECRET, "this is no URL"),
        (f"postgresql://warren:{SECRET}@host:port/database", "this is no URL"),
        (f"mysql://warren:{SECRET}@localhost/x", r"mysql:// is not postgresql\+psycopg://user@host/database"),
        (f"postgresql+asyncpg://warren:{SECRET}@localhost/x", r"postgresql\+asyncpg:// is not"),
        (f"postgresql+psycopg://warren:{SECRET}@localhost", "no database is named"),
        (f"{OTHERS}/x", "db.example is another machine"),
        (f"{OTHERS}/x?sslmode=require", "add .sslmode=verify-full&sslrootcert=FILE"),
        (f"postgresql://warren:{SECRET}@/x?host=/run/postgresql&host=db.example", "db.example is another machine"),
        (f"postgresql://warren:{SECRET}@/x?host=localhost,db.example", "db.example is another machine"),
        ("sqlite://", "by its whole path"),
        ("sqlite:///:memory:", "by its whole path"),
        ("sqlite:///here.sqlite", "by its whole path"),
        ("sqlite:////nowhere/at/all.sqlite", "there is no directory /nowhere/at"),
    ],
)
def test_what_names_no_journal_is_refused_with_the_key_and_without_a_password(tmp_path, url, said):
    path = make_parties(tmp_path, example_tables(tmp_path, 40), marks=())[BUSINESS]
    path.write_text(f'journal = "{url}"\n{path.read_text()}')
    with pytest.raises(ConfigError, match=said) as caught:
        load_party(path)
    assert str(caught.value).startswith(f"{path}: key journal: ")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////tmp/journal.sqlite",
        "postgresql+psycopg://warren@/x?host=/run/postgresql",
        "postgresql://warren@localhost:5433/x",
        f"{OTHERS}/x?sslmode=verify-full&sslrootcert=ca.pem",
    ],
)
def test_what_names_a_journal_is_taken(url):
    check_journal(url)


def test_without_its_driver_a_postgresql_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(JournalUnfit, match=r"pip install 'warren\[postgresql\]'"):
        check_journal("postgresql://warren@localhost/x")


def test_a_journal_that_cannot_be_opened_says_which_and_why_in_one_line(tmp_path):
    (tmp_path / "journal.sqlite.lock").mkdir()
    with pytest.raises(JournalUnavailable, match=f"the journal {tmp_path}/journal.sqlite cannot be opened: Is a dir"):
        ThreadedJournal(sqlite_url(tmp_path / "journal.sqlite"), "shop").open()
    url = f"postgresql+psycopg://warren:{SECRET}@/x?host={tmp_path}"
    with pytest.raises(JournalUnavailable, match="cannot be opened: connection") as caught:
        ThreadedJournal(url, "shop").open()
    assert SECRET not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_server_that_is_too_old_is_refused_with_its_version_at_the_start_and_by_the_doctor(tmp_path, monkeypatch):
    monkeypatch.setattr("services.store.transactions._POSTGRESQL_MIN", (99, 1))
    url = postgres.url(postgres.fresh_database())
    with pytest.raises(JournalUnavailable, match=r"is at PostgreSQL \d+\.\d+.*: 99 or later is needed"):
        ThreadedJournal(url, "shop").open()
    path: Path = make_parties(tmp_path, example_tables(tmp_path, 40), marks=())[BUSINESS]
    path.write_text(f'journal = "{url}"\n{path.read_text()}')
    faults = {finding.code: finding for finding in examine(path)}
    assert "99 or later is needed" in faults["journal_server_old"].what
