"""`warren data check`: what a job would say of a data set, column by column, without a cell."""

import json
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from services.cli import app
from services.cli.failures import BAD_INPUT, DONE, FAILED, guarded
from services.daemon.local import PROVIDER
from tests import postgres
from tests.parties import example_tables, make_parties

ILL = """id,age,town,same,gap,home
u-1,31,canary-a,1,1.5,0
u-2,47,canary-b,1,,1
u-2,58,canary-a,1,2.5,0
"""


@pytest.fixture
def party(tmp_path: Path) -> Path:
    """party.toml of a provider with a good data set `features`."""
    return make_parties(tmp_path, example_tables(tmp_path, 40), marks=())[PROVIDER]


def add(party: Path, lines: str) -> None:
    party.write_text(f"{party.read_text()}\n[[dataset]]\n{lines}\n")


def check(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["warren", "data", "check", *arguments])
    return guarded(app)


def test_a_good_data_set_is_taken_as_it_is(
    party: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(monkeypatch, "features", "--party", str(party)) == DONE
    said = capsys.readouterr().out
    assert "features: 40 rows, 0 of them share an identifier" in said
    assert "a job takes it as it is" in said


def test_what_would_be_refused_is_named_by_column_with_the_reason_and_no_cell(
    party: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ill.csv").write_text(ILL)
    add(party, f'name = "ill"\nsource = "{tmp_path}/ill.csv"\nid = "id"')
    assert check(monkeypatch, "ill", "--party", str(party), "--json") == FAILED
    printed = capsys.readouterr().out
    found = json.loads(printed)["ill"]
    columns = {column["name"]: column for column in found["columns"]}
    assert (found["rows"], found["repeated"]) == (3, 2)
    assert {name: (column["role"], column["missing"], column["distinct"]) for name, column in columns.items()} == {
        "id": ("identifier", 0, 2), "age": ("feature", 0, 3), "town": ("feature", 0, 1), "same": ("feature", 0, 1),
        "gap": ("feature", 1, 2), "home": ("feature", 0, 2),
    }  # fmt: skip
    assert {name: column["code"] for name, column in columns.items() if column["code"]} == {
        "id": "identifier_duplicate",
        "town": "value_not_numeric",
        "same": "column_constant",
        "gap": "value_missing",
    }
    assert [name for name, column in columns.items() if column["constant"]] == ["town", "same"]
    assert found["code"]
    assert check(monkeypatch, "ill", "--party", str(party)) == FAILED
    text_printed = capsys.readouterr().out
    for cell in ("canary", "u-1", "u-2", "47", "58", "2.5"):
        assert cell not in printed + text_printed
    assert "add imputation" in text_printed


def test_a_preparation_counts(
    party: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ill.csv").write_text(ILL.replace("u-2,58", "u-3,58"))
    add(
        party,
        f'name = "ill"\nsource = "{tmp_path}/ill.csv"\nid = "id"\ncolumns = ["age", "town", "gap"]\n'
        '[dataset.preparation]\ntown = [{ step = "one_hot" }]\ngap = [{ step = "impute", by = "median" }]',
    )
    assert check(monkeypatch, "ill", "--party", str(party), "--json") == DONE
    columns = json.loads(capsys.readouterr().out)["ill"]["columns"]
    assert {column["name"]: column["type"] for column in columns if column["role"] == "feature"} == {
        "age": "number", "town": "text", "gap": "number",
    }  # fmt: skip
    assert [column["name"] for column in columns if column["role"] == "not used"] == ["same", "home"]


def test_a_query_is_looked_at_with_its_types(
    party: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    database = postgres.fresh_database()
    engine = create_engine(postgres.url(database))
    with engine.begin() as connection:
        connection.execute(
            text("CREATE TABLE t AS SELECT 'u-' || i AS id, i AS a, now() AS at FROM generate_series(1, 9) i")
        )
    engine.dispose()
    url = postgres.url(database).replace("postgresql+psycopg", "postgresql")
    add(party, f'name = "asked"\nsource = "{url}"\nquery = "SELECT * FROM t"\nid = "id"')
    assert check(monkeypatch, "asked", "--party", str(party), "--json") == FAILED
    found = json.loads(capsys.readouterr().out)["asked"]
    assert found["rows"] == 9
    assert {column["name"]: (column["type"], column["code"]) for column in found["columns"]} == {
        "id": ("text", ""),
        "a": ("int64", ""),
        "at": ("timestamptz", "column_type"),
    }
    assert found["code"] == "column_type"


def test_an_unknown_data_set_and_a_missing_file_are_told(
    party: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(monkeypatch, "nothing", "--party", str(party)) == BAD_INPUT
    assert "it names features" in capsys.readouterr().err
    add(party, f'name = "gone"\nsource = "{tmp_path}/gone.csv"\nid = "id"')
    assert check(monkeypatch, "--party", str(party)) == FAILED
    said = capsys.readouterr()
    assert "there is no such file" in said.err
    assert "features: 40 rows" in said.out
