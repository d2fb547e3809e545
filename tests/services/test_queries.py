"""Rows from a PostgreSQL: the same checks as for files, types taken strictly, and no secret or cell in any text."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from sqlalchemy import create_engine, text

from learning.columns.preparation import Impute
from services.daemon.local import BUSINESS, NAMES, PROVIDER, embedded
from services.daemon.local_job import run_job
from services.party.configuration import ConfigError, load_party
from services.tables.queries import BATCH_ROWS, Query
from services.tables.table import TableError, data_digest, read_table
from tests import postgres
from tests.services.quick import JOB, parties

GOOD = """
CREATE TABLE people (code uuid PRIMARY KEY, age smallint, income numeric(12, 2), rate float8, home boolean, town text);
INSERT INTO people SELECT ('00000000-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid, i % 90, i * 1.25, i / 7.0,
    i % 2 = 0, 'town ' || i % 3 FROM generate_series(1, 60) i ORDER BY random();
"""
SELECT = "SELECT code, age, income, rate, home FROM people"

Make = Callable[..., Query]


@pytest.fixture(scope="module")
def database() -> str:
    """A database with a table of 60 people, in no order."""
    name = postgres.fresh_database()
    engine = create_engine(postgres.url(name))
    with engine.begin() as connection:
        connection.execute(text(GOOD))
    engine.dispose()
    return name


@pytest.fixture
def query(database: str) -> Make:
    def make(sql: str = SELECT, **fields: str) -> Query:
        url = postgres.url(database).replace("postgresql+psycopg", "postgresql")
        return replace(Query("people", url, sql, "code"), **fields)

    return make


def refused(source: Query, **arguments: object) -> TableError:
    with pytest.raises(TableError) as caught:
        read_table(source, identifier="code", **arguments)
    return caught.value


def test_a_query_gives_the_table_that_its_export_as_csv_gives(query: Make, database: str, tmp_path: Path) -> None:
    columns = "code, age, income, rate, home::int AS home"
    engine = create_engine(postgres.url(database))
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT {columns} FROM people ORDER BY code::text")).all()
    engine.dispose()
    path = tmp_path / "people.csv"
    path.write_text("code,age,income,rate,home\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    from_query = read_table(query(), identifier="code")
    from_file = read_table(path, identifier="code")
    assert from_query.columns == from_file.columns == ("age", "income", "rate", "home")
    assert from_query.identifiers == from_file.identifiers
    assert data_digest(from_query) == data_digest(from_file)


def test_the_digest_does_not_depend_on_the_order_in_which_the_server_gives_rows(query: Make) -> None:
    digests = {
        data_digest(read_table(query(f"{SELECT} ORDER BY {order}"), identifier="code"))
        for order in ("code", "age DESC, code", "random()")
    }
    assert len(digests) == 1


def test_more_rows_than_one_batch_come_whole(query: Make) -> None:
    count = 2 * BATCH_ROWS + 500
    table = read_table(query(f"SELECT i AS code, i * 2 AS a FROM generate_series(1, {count}) i"), identifier="code")
    assert len(table.identifiers) == count
    assert all(float(name) * 2 == value for name, value in zip(table.identifiers, table.values[:, 0], strict=True))


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("now()", "timestamptz"), ("current_date", "date"), ("'{}'::jsonb", "jsonb"), ("ARRAY[1, 2]", "int4[]"),
        ("'\\x00'::bytea", "bytea"), ("interval '1 day'", "interval"),
    ],
)  # fmt: skip
def test_a_type_that_is_no_number_and_no_text_is_refused_where_it_is_wanted(
    query: Make, expression: str, kind: str
) -> None:
    source = query(f"SELECT code, age, {expression} AS odd FROM people")
    error = refused(source)
    assert error.code == "column_type"
    assert f"column 'odd': has PostgreSQL's type {kind}" in str(error)
    assert "cast it in the query" in str(error)
    assert read_table(source, identifier="code", columns=["age"]).columns == ("age",)


@pytest.mark.parametrize(
    ("sql", "code", "named"),
    [
        ("SELECT code, NULLIF(age, 7) AS age FROM people", "value_missing", "column 'age'"),
        ("SELECT code, 1 AS one FROM people", "column_constant", "column 'one'"),
        ("SELECT code, 'NaN'::float8 AS a FROM people", "value_not_finite", "column 'a'"),
        ("SELECT code, 9007199254740993 + age AS a FROM people", "value_inexact", "column 'a'"),
        ("SELECT code, town FROM people", "value_not_numeric", "column 'town'"),
        ("SELECT 7 AS code, age FROM people", "identifier_duplicate", "column 'code'"),
        ("SELECT age, rate FROM people", "identifier_missing", "column 'code'"),
        ("SELECT code, age, age FROM people", "column_repeated", "age"),
        ("SELECT code, age FROM people WHERE false", "rows_none", "no data rows"),
        ("SELECT nothing FROM people", "query_failed", 'column "nothing" does not exist'),
        ("SELECT code FROM nowhere", "query_failed", 'relation "nowhere" does not exist'),
        ("DELETE FROM people RETURNING code", "query_failed", "42601"),
        ("WITH gone AS (DELETE FROM people RETURNING *) SELECT * FROM gone", "query_failed", "0A000"),
        ("SELECT code, nextval('steps') AS a FROM people", "query_failed", "42P01"),
        ("SELECT code, age FROM people; DROP TABLE people", "query_failed", "42601"),
    ],
)
def test_what_cannot_be_used_is_refused_as_in_a_file(query: Make, sql: str, code: str, named: str) -> None:
    error = refused(query(sql))
    assert error.code == code
    assert named in str(error)
    assert str(error).startswith("the query of data set people at")
    assert "; " in str(error)


def test_missing_cells_can_be_imputed(query: Make) -> None:
    table = read_table(
        query("SELECT code, NULLIF(age, 7) AS age FROM people"),
        identifier="code",
        steps={"age": (Impute(by="median"),)},
    )
    assert table.prepared_columns[0] == "age"


def test_no_error_shows_a_cell(query: Make) -> None:
    error = refused(query("SELECT code, ('canary-' || town)::int AS a FROM people"))
    assert (error.code, "22P02" in str(error), "canary" in str(error)) == ("query_failed", True, False)


def test_a_query_writes_nothing(query: Make, database: str) -> None:
    engine = create_engine(postgres.url(database))
    with engine.begin() as connection:
        connection.execute(text("CREATE SEQUENCE IF NOT EXISTS counted"))
    error = refused(query("SELECT code, nextval('counted') AS a FROM people"))
    assert "25006" in str(error)
    engine.dispose()


# -- who is let in ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader() -> str:
    """A user with the password `s3cret-word`."""
    return postgres.guarded_user("s3cret-word")


def as_reader(source: Query, reader: str, credentials: str) -> Query:
    return replace(source, url=source.url.replace("warren@", f"{reader}@"), credentials=credentials)


def test_credentials_come_from_a_file_or_from_the_environment(
    query: Make, reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "people.credentials"
    file.write_text(f'user = "{reader}"\npassword = "s3cret-word"\n')
    file.chmod(0o600)
    monkeypatch.setenv("PEOPLE", f"{reader}:s3cret-word")
    for credentials in (str(file), "env:PEOPLE"):
        assert len(read_table(as_reader(query(), reader, credentials), identifier="code").identifiers) == 60


@pytest.mark.parametrize("wrong", ["password", "mode", "missing", "content", "environment"])
def test_credentials_that_do_not_do_are_told_without_the_password(
    query: Make, reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    file = tmp_path / "people.credentials"
    word = "wr0ng-word" if wrong == "password" else "s3cret-word"
    file.write_text("s3cret-word" if wrong == "content" else f'user = "{reader}"\npassword = "{word}"\n')
    file.chmod(0o644 if wrong == "mode" else 0o600)
    monkeypatch.setenv("PEOPLE", "s3cret-word")
    credentials = {"missing": str(tmp_path / "none"), "environment": "env:PEOPLE"}.get(wrong, str(file))
    source = as_reader(query(), reader, credentials)
    error = refused(source)
    assert error.code == "credentials_unfit"
    said = {
        "password": "password authentication failed",
        "mode": f"chmod 600 {file}",
        "missing": "cannot be read",
        "content": 'user = "..."',
        "environment": "PEOPLE is not user:password",
    }
    assert said[wrong] in str(error)
    assert not re.search("s3cret|wr0ng", f"{error}{source!r}")


def test_a_server_that_is_not_there_is_told(query: Make) -> None:
    error = refused(query(url="postgresql://warren@127.0.0.1:1/people"))
    assert error.code == "source_unreachable"
    assert "Connection refused" in str(error)


# -- party.toml -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ('source = "postgresql://u:s3cret@localhost/d"\nquery = "SELECT 1"', "no password may stand in party.toml"),
        ('source = "postgresql:///d?password=s3cret"\nquery = "SELECT 1"', "no password may stand in party.toml"),
        ('source = "postgresql://[s3cret/d"\nquery = "SELECT 1"', "this is no URL"),
        ('source = "postgresql://localhost/d"', "key query: is missing"),
        ('source = "rows.csv"\nquery = "SELECT 1"', "name a file or a query"),
        ('source = "postgresql://db.example/d"\nquery = "SELECT 1"', "sslmode=verify-full"),
        ('source = "postgresql://db.example/d?sslmode=require"\nquery = "SELECT 1"', "sslmode=verify-full"),
    ],
)
def test_a_source_that_cannot_be_is_refused_without_showing_a_password(tmp_path: Path, lines: str, named: str) -> None:
    path = parties(tmp_path / "parties")[0]
    kept = re.sub(r"^source = .*$", lambda _: lines, path.read_text(), flags=re.MULTILINE)
    path.write_text(kept)
    with pytest.raises(ConfigError, match=re.escape(named)) as caught:
        load_party(path)
    assert "data set labels" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def kind_of(kind: pl.DataType) -> str:
    return "text" if kind == pl.String else "bigint" if kind.is_integer() else "float8"


def fill(database: str, name: str, rows: pl.DataFrame) -> None:
    """A table of PostgreSQL with these rows."""
    columns = ", ".join(f"{column} {kind_of(kind)}" for column, kind in rows.schema.items())
    engine = create_engine(postgres.url(database))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE {name} ({columns})"))
        marks = ", ".join(f":{column}" for column in rows.columns)
        connection.execute(text(f"INSERT INTO {name} VALUES ({marks})"), rows.to_dicts())
    engine.dispose()


def test_a_job_on_queries_ends_at_the_bytes_of_a_job_on_files(tmp_path: Path) -> None:
    proposal = {**JOB, "partner": f"{NAMES[PROVIDER]}/features"}
    on_files = parties(tmp_path / "files")
    with embedded(on_files):
        expected = run_job(on_files, proposal)
    on_queries = parties(tmp_path / "queries")
    database = postgres.fresh_database()
    url = postgres.url(database).replace("postgresql+psycopg", "postgresql")
    for path, role in zip(on_queries, (BUSINESS, PROVIDER), strict=True):
        rows = pl.read_parquet(tmp_path / "files" / f"{role}.parquet").with_columns(pl.col("id").cast(pl.String))
        fill(database, role, rows)
        lines = f'source = "{url}"\nquery = "SELECT * FROM {role} ORDER BY random()"'
        path.write_text(re.sub(r"^source = .*$", lambda _, lines=lines: lines, path.read_text(), flags=re.MULTILINE))
    with embedded(on_queries):
        result = run_job(on_queries, proposal)
    assert result.parameters == expected.parameters
