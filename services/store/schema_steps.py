"""The steps from each schema of the journal to the next: one function each, in order, at the end of the module.

A step says in its own frozen definitions what it leaves behind, never in those of `journal_schema`, which go on. A
table that is new needs no statement: after the last step, whatever is missing is made. But every change of the schema,
a new table too, gets a number and a step, so that older software refuses the journal in place of misunderstanding it.
What it takes to add one: raise `SCHEMA_VERSION`, append to `STEPS`, and add files of the schema before to
tests/migration/.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    insert,
    literal,
    select,
    text,
)
from sqlalchemy.schema import CreateTable

_FRESH: Final = "fresh_"
"""Before the name of a table that takes the place of another one."""


@dataclass(frozen=True, slots=True)
class Step:
    """From the schema before to `schema`. `change` runs inside the transaction and must not commit."""

    schema: int
    change: Callable[[Connection], None]


def table_now(connection: Connection, name: str) -> Table:
    """A table as it stands in the database."""
    return Table(name, MetaData(), autoload_with=connection)


def replace_table(connection: Connection, before: Table, after: Table, values: Mapping[str, Any]) -> None:
    """Make `after` take the place of `before`, row by row: a column keeps its value unless `values` gives another."""
    fresh = after.to_metadata(MetaData(), name=f"{_FRESH}{after.name}")
    connection.execute(CreateTable(fresh))
    names = [column.name for column in after.columns]
    chosen: list[ColumnElement[Any]] = [
        (values[name] if name in values else before.c[name]).label(name) for name in names
    ]
    connection.execute(insert(fresh).from_select(names, select(*chosen).select_from(before)))
    before.drop(connection)
    connection.execute(text(f"ALTER TABLE {fresh.name} RENAME TO {after.name}"))
    _go_on_counting(connection, after)
    for index in sorted(after.indexes, key=lambda index: str(index.name)):
        index.create(connection)


def _go_on_counting(connection: Connection, table: Table) -> None:
    """PostgreSQL numbers rows by a sequence, which knows nothing of the rows that were copied."""
    counted = table.autoincrement_column
    if connection.dialect.name != "postgresql" or counted is None:
        return
    sequence = f"pg_get_serial_sequence('{table.name}', '{counted.name}')"
    highest = f"(SELECT coalesce(max({counted.name}), 0) FROM {table.name})"  # noqa: S608 - names of this module
    connection.execute(text(f"SELECT setval({sequence}, {highest} + 1, false)"))


# -- 2: jobs with several partners: what was counted by job is counted by line --------------------------------------

_TWO: Final = MetaData()

_JOBS_2: Final = Table(
    "jobs",
    _TWO,
    Column("job", String(40), primary_key=True),
    Column("role", String(40), nullable=False),
    Column("partner", String(40), nullable=False, index=True),
    Column("status", String(10), nullable=False, index=True),
    Column("outcome", String(20), nullable=False),
    Column("reason_code", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("results", LargeBinary, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Column("state_tag", String(40), nullable=False),
    Column("logic_version", Integer, nullable=False),
    Column("length", Integer, nullable=False),
    Column("head", LargeBinary, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)

_COUNTED_2: Final = (
    "applied",
    "sent",
    "receipted",
    "bulk_received",
    "bulk_consumed",
    "bulk_sent",
    "credit",
    "unreceipted_bytes",
    "late",
)

_LINES_2: Final = Table(
    "lines",
    _TWO,
    Column("job", String(40), primary_key=True),
    Column("partner", String(40), primary_key=True),
    Column("place", Integer, nullable=False),
    *(Column(name, Integer, nullable=False) for name in _COUNTED_2),
)

_HELD_2: Final = Table(
    "held",
    _TWO,
    Column("job", String(40), primary_key=True),
    Column("sender", String(40), primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("bulk", Boolean, nullable=False),
    Column("header", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("bytes", Integer, nullable=False),
)

_OUTBOX_2: Final = Table(
    "outbox",
    _TWO,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("job", String(40), nullable=False),
    Column("recipient", String(40), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("bulk", Boolean, nullable=False),
    Column("kind", String(40), nullable=False),
    Column("chunk", Integer, nullable=False),
    Column("chunks", Integer, nullable=False),
    Column("header", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("bytes", Integer, nullable=False),
    Index("outbox_order", "job", "recipient", "sequence"),
)

_TASKS_2: Final = Table(
    "tasks",
    _TWO,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("job", String(40), nullable=False),
    Column("task", String(200), nullable=False),
    Column("function", String(100), nullable=False),
    Column("arguments", LargeBinary, nullable=False),
    Column("inputs", LargeBinary, nullable=False),
    Column("sends_bulk", Boolean, nullable=False),
    Column("partner", String(40), nullable=False),
    Column("started", Boolean, nullable=False),
    Column("failures", Integer, nullable=False),
    Index("tasks_name", "job", "task", unique=True),
)

_PROGRESS_2: Final = Table(
    "progress",
    _TWO,
    Column("job", String(40), primary_key=True),
    Column("stage", String(40), nullable=False),
    Column("iteration", Integer, nullable=False),
    Column("iterations", Integer, nullable=False),
    Column("done", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("waits_for", String(400), nullable=False),
    Column("since", Float, nullable=False),
)


def _count_by_line(connection: Connection) -> None:
    """Until here a job had one partner: everything of a job is of its line with that one."""
    jobs = table_now(connection, "jobs")
    _LINES_2.create(connection)
    counted = ("job", "partner", "place", *_COUNTED_2)
    columns = (jobs.c.job, jobs.c.partner, literal(0), *(jobs.c[name] for name in _COUNTED_2))
    connection.execute(insert(_LINES_2).from_select(counted, select(*columns)))
    for after, told in ((_HELD_2, "sender"), (_OUTBOX_2, "recipient"), (_TASKS_2, "partner")):
        before = table_now(connection, after.name)
        partner = select(jobs.c.partner).where(jobs.c.job == before.c.job).scalar_subquery()
        replace_table(connection, before, after, {told: partner})
    replace_table(connection, jobs, _JOBS_2, {})
    replace_table(connection, table_now(connection, "progress"), _PROGRESS_2, {})


# -- 3: what is counted for ever has 64 bits -----------------------------------------------------------------------


def _widen(connection: Connection) -> None:
    """PostgreSQL's `integer` ends at 2^31, where the bytes of a large job come within hours; SQLite's has 64 bits."""
    if connection.dialect.name != "postgresql":
        return
    for table, column in _GROWING_3:
        connection.execute(text(f"ALTER TABLE {table} ALTER COLUMN {column} TYPE bigint"))
        sequence = connection.scalar(text(f"SELECT pg_get_serial_sequence('{table}', '{column}')"))
        if sequence is not None:
            connection.execute(text(f"ALTER SEQUENCE {sequence} AS bigint"))


_GROWING_3: Final = (
    ("counters", "value"),
    ("parked_counts", "count"),
    ("outbox", "id"),
    ("tasks", "id"),
    ("parked", "id"),
)


STEPS: Final[tuple[Step, ...]] = (Step(2, _count_by_line), Step(3, _widen))
