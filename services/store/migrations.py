"""From the journal of an earlier version to the schema of this one: ordered steps inside one transaction.

The steps are in `services.store.schema_steps`. Before the first of them a journal in a file is copied beside itself. A
database at PostgreSQL is its administrator's to copy; there as here a step that fails leaves everything as it was.
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import structlog
from sqlalchemy import Connection, update

from services.store.data_directory import sync_directory
from services.store.journal_errors import JournalForeign, JournalUnavailable
from services.store.journal_schema import SCHEMA_VERSION, meta
from services.store.schema_steps import STEPS, Step

log = structlog.get_logger("journal")


def bring_up(connection: Connection, found: str) -> None:
    """Inside a transaction: take a journal of schema `found` to this version's, after copying it.

    Raises:
        JournalForeign: no steps lead from there to here.
        JournalUnavailable: the copy cannot be made; nothing was changed.

    """
    steps = steps_from(found)
    if not steps:
        return
    kept = copy_file(connection, found)
    for step in steps:
        step.change(connection)
    connection.execute(update(meta).where(meta.c.key == "schema").values(value=str(steps[-1].schema)))
    log.warning("journal brought to this version's schema", before=found, now=steps[-1].schema, copy=kept or None)


def steps_from(found: str) -> Sequence[Step]:
    """The steps that take schema `found` to this version's; none for the same. Raises JournalForeign."""
    known = found.isdecimal() and int(found) in range(STEPS[0].schema - 1, SCHEMA_VERSION + 1)
    if not known:
        raise JournalForeign(other_schema(found))
    return [step for step in STEPS if step.schema > int(found)]


def other_schema(found: str) -> str:
    """For the operator: a journal of another version, which is left as it is."""
    if found.isdecimal() and int(found) in range(STEPS[0].schema - 1, SCHEMA_VERSION):
        return (
            f"the journal has schema {found}, this version of Warren reads schema {SCHEMA_VERSION}: start its daemon "
            "once with this version (`warren serve`), which copies the journal and brings it up"
        )
    return (
        f"the journal has schema {found}, this version of Warren writes schema {SCHEMA_VERSION} and knows no way from "
        "there: run the version that wrote it, or a newer one"
    )


# -- the copy ---------------------------------------------------------------------------------------------------


def copy_of(journal: Path, found: str) -> Path:
    """Where the copy of a journal in a file lies that had schema `found`."""
    return journal.with_name(f"{journal.name}.schema-{found}")


def copies_of(journal: Path) -> list[Path]:
    """All copies that upgrades have left beside a journal in a file, oldest schema first."""
    return sorted(journal.parent.glob(f"{journal.name}.schema-*"))


def copy_file(connection: Connection, found: str) -> str:
    """Copy a journal in a file, durable on return; its name, or nothing for another database.

    What this transaction has not changed yet is what a second connection reads.
    """
    url = connection.engine.url
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return ""
    assert url.database is not None
    journal = Path(url.database).resolve()
    target, fresh = copy_of(journal, found), copy_of(journal, f"{found}.new")
    try:
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600)
        with closing(sqlite3.connect(journal)) as source, closing(sqlite3.connect(fresh)) as copy:
            source.backup(copy)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.rename(target)
        sync_directory(target.parent)
    except (OSError, sqlite3.Error) as error:
        fresh.unlink(missing_ok=True)
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise JournalUnavailable(
            f"the journal {journal} has to be copied before it is brought to schema {SCHEMA_VERSION}, and cannot be: "
            f"{cause}. Make room for a second file of its size; nothing was changed"
        ) from None
    return str(target)
