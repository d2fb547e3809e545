"""A table from a SQL query to a PostgreSQL: streamed by a cursor of the server, with its types taken strictly.

Only whole and broken numbers, truth values, text and UUIDs are taken; a column of another type is refused when it is
wanted, with the cast to write. The rows are put into the order of their identifiers, because a query has none of its
own and the digests of a job depend on it. What the server says of an error is told only where it speaks of names and
rights: elsewhere it quotes cells.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import polars as pl

from services.party.sources import SourceUnfit, is_database, read_credentials
from services.tables.csv_files import Cells
from services.tables.files import CELLS_MAX, TableError, TableFile, refuse_names, shown

if TYPE_CHECKING:
    from psycopg import Connection, ServerCursor

BATCH_ROWS: Final = 10_000
CONNECT_TIMEOUT_S: Final = 15


def _as_it_is(cell: Any) -> Any:
    return cell


_TYPES: Final[Mapping[int, tuple[type[pl.DataType], Callable[[Any], Any]]]] = {
    16: (pl.Boolean, _as_it_is),
    20: (pl.Int64, _as_it_is),
    21: (pl.Int64, _as_it_is),
    23: (pl.Int64, _as_it_is),
    700: (pl.Float64, _as_it_is),
    701: (pl.Float64, _as_it_is),
    # Decimal digits, as in a file of text: read where a number is needed, with the same checks.
    1700: (pl.String, str),
    25: (pl.String, _as_it_is),
    1042: (pl.String, _as_it_is),
    1043: (pl.String, _as_it_is),
    2950: (pl.String, str),
}
"""By PostgreSQL's number of a type (its catalogue `pg_type`): how the cells are kept, and what makes them so."""

_TOLD: Final = ("08", "25", "28", "3D", "3F", "42", "53", "57")
"""Classes of SQLSTATE whose messages name tables, columns, users and causes, and no cell."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query as a source of rows.

    Attributes:
        dataset: name of the data set.
        url: where, without a password.
        sql: one SELECT.
        identifier: the column whose text orders the rows.
        credentials: what `services.party.sources.read_credentials` takes; empty: what libpq finds (PGUSER,
            PGPASSWORD, PGPASSFILE).

    """

    dataset: str
    url: str
    sql: str = field(repr=False)
    identifier: str
    credentials: str = ""

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"the query of data set {self.dataset} at {parts.hostname or 'this machine'}{parts.path}"

    def open(self, wanted: Collection[str] | None) -> TableFile:
        """Run the query and keep the columns that are wanted. Raises TableError."""
        with self._cursor() as cursor:
            described = [(column.name, column.type_code, column.type_display) for column in cursor.description or ()]
            names = [name for name, _, _ in described]
            refuse_names(self, names)
            kept = [place for place, name in enumerate(names) if wanted is None or name in (*wanted, self.identifier)]
            columns, height = self._read(cursor, described, kept)
        cells = {names[place]: column for place, column in columns.items()}
        order = _order_of(cells.get(self.identifier))
        strange = {name: kind for name, number, kind in described if number not in _TYPES}

        def take(name: str) -> Cells:
            if name in strange:
                raise TableError(
                    "column_type",
                    f"{self}, column '{shown(name)}': has PostgreSQL's type {strange[name]}, which is no number and no "
                    "text; cast it in the query (column::float8, column::text) or leave it out",
                )
            column = cells.pop(name)
            return column if order is None else column.gather(order)

        return TableFile(self, names, height, take)

    def _read(
        self, cursor: "ServerCursor[Any]", described: Sequence[tuple[str, int, str]], kept: Sequence[int]
    ) -> tuple[dict[int, pl.Series], int]:
        """The columns at the places in `kept`, and the number of rows."""
        readable = [place for place in kept if described[place][1] in _TYPES]
        pieces: dict[int, list[pl.Series]] = {place: [] for place in readable}
        height = 0
        while rows := cursor.fetchmany(BATCH_ROWS):
            height += len(rows)
            if height * max(1, len(kept)) > CELLS_MAX:
                raise TableError(
                    "file_too_large", f"{self}: has more than {CELLS_MAX} cells; leave out columns or rows"
                )
            for place in readable:
                kind, make = _TYPES[described[place][1]]
                values = [None if row[place] is None else make(row[place]) for row in rows]
                pieces[place].append(pl.Series(values, dtype=kind))
        empty = {place: pl.Series([], dtype=_TYPES[described[place][1]][0]) for place in readable}
        return {place: pl.concat(found) if found else empty[place] for place, found in pieces.items()}, height

    @contextmanager
    def _cursor(self) -> "Iterator[ServerCursor[Any]]":
        """A cursor of the server on the query's rows; what goes wrong on the way is a TableError."""
        try:
            import psycopg
        except ImportError:
            raise TableError(
                "source_driver", f"{self}: PostgreSQL's driver is missing; install Warren with the extra `postgresql`"
            ) from None
        try:
            with self._connected(psycopg.connect) as connection:
                connection.read_only = True
                with connection.cursor(name="warren") as cursor:
                    cursor.itersize = BATCH_ROWS
                    # Binary, and so by the protocol that takes one statement and no more.
                    cursor.execute(self.sql.strip().removesuffix(";").encode(), binary=True)
                    yield cursor
        except SourceUnfit as error:
            raise TableError("credentials_unfit", f"{self}: {error}") from None
        except psycopg.Error as error:
            raise self._refusal(error) from None

    def _connected(self, connect: "Callable[..., Connection[Any]]") -> "Connection[Any]":
        login = (
            dict(zip(("user", "password"), read_credentials(self.credentials), strict=True))
            if (self.credentials)
            else {}
        )
        return connect(self.url, connect_timeout=CONNECT_TIMEOUT_S, application_name="warren", **login)

    def _refusal(self, error: Any) -> TableError:
        state = error.sqlstate or ""
        told = error.diag.message_primary if state[:2] in _TOLD else ""
        if not state:
            # Libpq's own words about a connection that did not come about: host, port, user and why.
            said = str(error).strip().splitlines() or [type(error).__name__]
            if "password authentication failed" in said[0] or "no password supplied" in said[0]:
                return TableError("credentials_unfit", f"{self}: {said[0]}; correct user or password in `credentials`")
            return TableError("source_unreachable", f"{self}: {said[0]}; is the server there, and the URL right?")
        what = f"{type(error).__name__}: {told}" if told else type(error).__name__
        remedy = "run the query with psql as the same user, and correct it in party.toml"
        return TableError("query_failed", f"{self}: PostgreSQL says {state} {what}; {remedy}")


def _order_of(identifiers: pl.Series | None) -> pl.Series | None:
    """The places of the rows in the order of their identifiers' text; None where there are none to go by."""
    return None if identifiers is None else identifiers.cast(pl.String).arg_sort()


def source_of(name: str, entry: Mapping[str, Any]) -> "Path | Query":
    """The source of a data set as the settings have it."""
    if not is_database(entry["source"]):
        return Path(entry["source"])
    return Query(name, entry["source"], entry["query"], entry["id"], entry.get("credentials", ""))
