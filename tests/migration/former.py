"""Unpacks the files of former schemas. How they were made is in README.md beside them."""

import sqlite3
import tarfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, inspect, select, text

from services.daemon.local import BUSINESS, PROVIDER

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Former:
    """Two parties of a former schema, and their jobs: one is `done`, one `whole` (retention full), one `running`."""

    schema: int
    paths: dict[str, Path]
    jobs: dict[str, str]

    def journal(self, role: str) -> Path:
        return self.paths[role].parent / "data" / "journal.sqlite"


def unpack(schema: int, directory: Path) -> Former:
    """The files of a schema, as its software left them."""
    with tarfile.open(HERE / f"schema-{schema}.tar.xz") as packed:
        packed.extractall(directory, filter="data")
    paths = {role: directory / role / "party.toml" for role in (BUSINESS, PROVIDER)}
    with closing(sqlite3.connect(paths[BUSINESS].parent / "data" / "journal.sqlite")) as journal:
        found = journal.execute(
            "SELECT CASE WHEN j.status = 'running' THEN 'running' WHEN c.retention = 'full' THEN 'whole' "
            "ELSE 'done' END, job FROM jobs j JOIN contracts c USING (job)"
        ).fetchall()
    return Former(schema, paths, dict(found))


def rows(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """Everything in a database, by table, in an order that does not depend on it; but the schema's number."""
    tables = MetaData()
    tables.reflect(connection)
    return {
        name: sorted((dict(row._mapping) for row in connection.execute(select(table))), key=repr)
        for name, table in tables.tables.items()
    }


def shape(engine: Engine) -> dict[str, Any]:
    """Tables, columns, types, keys and indexes of a database."""
    found = inspect(engine)
    return {
        name: {
            "columns": [
                (column["name"], repr(column["type"]), column["nullable"]) for column in found.get_columns(name)
            ],
            "key": found.get_pk_constraint(name)["constrained_columns"],
            "indexes": sorted(
                (index["name"], tuple(index["column_names"]), bool(index["unique"]))
                for index in found.get_indexes(name)
            ),
        }
        for name in found.get_table_names()
    }


def carry_over(journal: Path, url: str) -> None:
    """Make the same tables with the same rows at another database, as the former software would have them there."""
    source, target = create_engine(f"sqlite:///{journal}"), create_engine(url)
    tables = MetaData()
    tables.reflect(source)
    for table in tables.sorted_tables:
        for column in table.columns:
            column.type = column.type.as_generic()
    tables.create_all(target)
    with source.connect() as reading, target.begin() as writing:
        for table in tables.sorted_tables:
            if found := [dict(row._mapping) for row in reading.execute(select(table))]:
                writing.execute(table.insert(), found)
                _count_on(writing, table)
    source.dispose()
    target.dispose()


def _count_on(connection: Connection, table: Table) -> None:
    """The former software numbered these rows itself there, so the next one has the next number."""
    counted = table.autoincrement_column
    if counted is not None:
        sequence = f"pg_get_serial_sequence('{table.name}', '{counted.name}')"
        connection.execute(text(f"SELECT setval({sequence}, (SELECT max({counted.name}) FROM {table.name}))"))
