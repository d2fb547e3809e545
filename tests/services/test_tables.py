"""Reading tables: what is written is what comes out, and what cannot be trained on is refused in clear words."""

import datetime
import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.tables.files import FILE_BYTES_MAX
from services.tables.table import Table, TableError, data_digest, read_table, schema_digest

GOOD = "id,y,a,b\n007,0,1.5,-2\n7,1,2.5,3e2\nx,0,0.1,4\n"


@pytest.fixture
def write(tmp_path):
    """Write a file of text, bytes or a frame; numbered, so that no two are the same."""
    numbers = itertools.count()

    def one(content, suffix=".csv"):
        path = tmp_path / f"table{next(numbers)}{suffix}"
        if isinstance(content, pl.DataFrame):
            content.write_parquet(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return one


def refused(path, **arguments):
    """The error of a refused file; every text names the file and ends with what to do after a semicolon."""
    with pytest.raises(TableError) as caught:
        read_table(path, **{"identifier": "id", **arguments})
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.count("; ") >= 1
    assert caught.value.message == message
    return caught.value


def test_identifiers_stay_as_written_and_numbers_become_float64(write):
    table = read_table(write(GOOD), identifier="id", label="y", task="logistic")
    assert table.identifiers == ["007", "7", "x"]
    assert table.columns == ("a", "b")
    assert table.values.tolist() == [[1.5, -2.0], [2.5, 300.0], [0.1, 4.0]]
    assert table.label.tolist() == [0.0, 1.0, 0.0]
    assert table.values.dtype == table.label.dtype == np.float64
    assert table.values.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("written", ["007", "7.0", "1e5", " 7", "0x1F", "null", "NA", "true", "+49170", "1_000"])
def test_no_identifier_is_taken_for_a_number(write, written):
    table = read_table(write(f"id,a\n{written},1\nother,2\n"), identifier="id")
    assert table.identifiers == [written, "other"]


def test_columns_are_chosen_and_ordered_by_name(write):
    path = write(GOOD)
    table = read_table(path, identifier="id", columns=["b", "a"])
    assert table.columns == ("b", "a")
    assert table.values[0].tolist() == [-2.0, 1.5]
    assert table.label is None
    assert read_table(path, identifier="id").columns == ("y", "a", "b")


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(finite, min_size=2, max_size=30).filter(lambda numbers: min(numbers) < max(numbers)))
@example([5e-324, 1.7976931348623157e308])
@example([0.1, 2**53 + 2.0])
@settings(max_examples=80, deadline=None)
def test_every_number_is_the_float64_that_python_reads(tmp_path_factory, numbers):
    path = tmp_path_factory.mktemp("numbers") / "numbers.csv"
    path.write_text("id,a\n" + "".join(f"{row},{number!r}\n" for row, number in enumerate(numbers)))
    assert read_table(path, identifier="id").values[:, 0].tolist() == numbers


@pytest.mark.parametrize(
    ("content", "identifiers"),
    [
        ("id,a\r\nx,1\r\ny,2\r\n", ["x", "y"]),
        ("\ufeffid,a\nx,1\ny,2\n", ["x", "y"]),
        ("id,a\nx,1\ny,2", ["x", "y"]),
        ("\nid,a\nx,1\ny,2\n\n\n", ["x", "y"]),
        ('id,a\n"x,1",1\n"y\nz",2\n', ["x,1", "y\nz"]),
        ('id,a\n"say ""x""",1\ny, 2 \n', ['say "x"', "y"]),
        ("id,a\nzoë,1\n号,2\n", ["zoë", "号"]),
    ],
    ids=["crlf", "byte order mark", "no last line end", "blank ends", "quoted", "quotes", "unicode"],
)
def test_the_usual_ways_to_write_csv_are_read(write, content, identifiers):
    table = read_table(write(content), identifier="id")
    assert table.identifiers == identifiers
    assert table.values.tolist() == [[1.0], [2.0]]


def test_parquet_and_csv_of_one_table_have_one_digest(write):
    frame = pl.DataFrame(
        {"id": ["007", "7", "x"], "y": [False, True, False], "a": [1.5, 2.5, 0.1], "b": [-2, 300, 4]},
        schema_overrides={"b": pl.Int16},
    )
    arguments = {"identifier": "id", "label": "y", "task": "logistic"}
    one = read_table(write(GOOD), **arguments)
    two = read_table(write(frame, ".parquet"), **arguments)
    assert data_digest(one) == data_digest(two)
    assert schema_digest(one) == schema_digest(two)


def test_integer_and_categorical_identifiers_of_parquet_become_their_text(write):
    frame = pl.DataFrame({"id": [7, 10**18 + 1], "a": [1.0, 2.0]})
    assert read_table(write(frame, ".parquet"), identifier="id").identifiers == ["7", "1000000000000000001"]
    text = pl.DataFrame({"id": pl.Series(["u", "v"], dtype=pl.Categorical), "a": [1.0, 2.0]})
    assert read_table(write(text, ".parquet"), identifier="id").identifiers == ["u", "v"]


# Files.


def test_a_missing_file_and_a_directory_are_refused(tmp_path):
    assert refused(tmp_path / "absent.csv").code == "file_missing"
    assert refused(tmp_path).code == "file_missing"


def test_what_is_neither_csv_nor_parquet_is_refused(write):
    assert refused(write(GOOD, ".xlsx")).code == "file_format"
    assert refused(write(GOOD, ".parquet")).code == "file_format"
    disguised = write(write(pl.DataFrame({"id": ["x"], "a": [1]}), ".parquet").read_bytes(), ".csv")
    assert refused(disguised).code == "file_format"


def test_a_damaged_parquet_file_is_refused(write):
    whole = write(pl.DataFrame({"id": ["x", "y"], "a": [1, 2]}), ".parquet").read_bytes()
    assert refused(write(whole[:-20], ".parquet")).code == "file_unreadable"
    assert refused(write(b"PAR1", ".parquet")).code == "file_unreadable"


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_refused(write, content):
    assert refused(write(content)).code == "file_format"


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_fields_between_other_marks_than_commas_are_refused(write, mark):
    error = refused(write(GOOD.replace(",", mark)))
    assert error.code == "file_format"
    assert "comma" in str(error)


def test_a_file_beyond_the_limit_is_refused_unread(write):
    path = write(GOOD)
    with path.open("r+b") as sparse:
        sparse.truncate(FILE_BYTES_MAX + 1)
    assert refused(path).code == "file_too_large"


def test_a_small_parquet_file_of_more_cells_than_memory_holds_is_refused_unread(write, monkeypatch):
    frame = pl.select(pl.repeat(1, 400_000).alias("a"), pl.repeat("x", 400_000).alias("id"))
    path = write(frame, ".parquet")
    assert path.stat().st_size < 40_000
    assert refused(path).code == "identifier_duplicate"
    monkeypatch.setattr("services.tables.files.CELLS_MAX", 799_999)
    error = refused(path)
    assert error.code == "file_too_large"
    assert "800000 cells" in str(error)


def test_a_row_with_too_many_fields_is_named(write):
    error = refused(write('id,a\n"x\nx",1\ny,2,5\n'))
    assert error.code == "file_unreadable"
    assert "data row 2 (line 4) has 3 fields, the header 2" in str(error)


def test_bytes_that_are_no_utf8_are_named_by_their_line(write):
    error = refused(write(b"id,a\nx,1\n\xe9,2\n"))
    assert error.code == "file_unreadable"
    assert "line 3 is not UTF-8" in str(error)


@pytest.mark.parametrize("content", ['id,a\n"x,1\ny,2\n', 'id,a\nx"x,1\n', 'id,a\n"x"x,1\n', "id,a\rx,1\ry,2\r"])
def test_malformed_quotes_and_line_ends_are_refused_without_showing_cells(write, content):
    path = write(content)
    error = refused(path)
    assert error.code == "file_unreadable"
    assert "x" not in str(error).removeprefix(str(path)).replace("export", "")


# Columns.


def test_repeated_and_unnamed_columns_are_refused(write):
    error = refused(write("id,a,b,a\nx,1,2,3\n"))
    assert (error.code, "'a' 2 times" in str(error)) == ("column_repeated", True)
    error = refused(write("id,a,\nx,1,\n"))
    assert (error.code, "column 3 has no name" in str(error)) == ("column_unnamed", True)


def test_absent_columns_are_refused_naming_those_there_are(write):
    path = write(GOOD)
    for code, arguments in (
        ("identifier_missing", {"identifier": "uid"}),
        ("label_missing", {"label": "uid"}),
        ("column_missing", {"columns": ["a", "uid"]}),
    ):
        error = refused(path, **arguments)
        assert error.code == code
        assert "'uid'" in str(error)
        assert str(error).endswith("id, y, a, b")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"columns": ["a", "id"]}, "column_reserved"),
        ({"columns": ["a", "y"], "label": "y"}, "column_reserved"),
        ({"label": "id"}, "column_reserved"),
        ({"columns": ["a", "a"]}, "column_repeated"),
        ({"columns": []}, "columns_none"),
    ],
)
def test_a_choice_of_columns_that_makes_no_sense_is_refused(write, arguments, code):
    assert refused(write(GOOD), **arguments).code == code


def test_a_table_without_features_or_without_rows_is_refused(write):
    assert refused(write("id,y\nx,1\n"), label="y").code == "columns_none"
    assert refused(write("id,a\n")).code == "rows_none"
    assert refused(write("id,a")).code == "rows_none"


# Identifiers.


def test_empty_identifiers_are_refused_by_row_and_line(write):
    error = refused(write('id,a\n"x\nx",1\n,2\n  ,3\ny,4\n'))
    assert error.code == "identifier_empty"
    assert "column 'id': data rows 2 (line 4), 3 (line 5)" in str(error)
    assert refused(write("id,a\nx,1\n\ny,2\n")).code == "identifier_empty"


def test_equal_identifiers_are_refused_by_their_rows_and_not_by_value(write):
    error = refused(write("id,a\nsecret,1\nu,2\nsecret,3\nu,4\nv,5\n"))
    assert error.code == "identifier_duplicate"
    assert "data rows 1 (line 2), 3 (line 4) have the same identifier (2 other rows" in str(error)
    assert "secret" not in repr(error)


def test_many_equal_identifiers_are_counted(write):
    error = refused(write("id,a\n" + "u,1\n" * 1000))
    assert "1 (line 2), 2 (line 3), 3 (line 4), 4 (line 5), 5 (line 6) and 995 more" in str(error)


@pytest.mark.parametrize("values", [[1.0, 2.0], [datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)], [b"u", b"v"]])
def test_identifiers_of_a_type_without_one_spelling_are_refused(write, values):
    error = refused(write(pl.DataFrame({"id": values, "a": [1.0, 2.0]}), ".parquet"))
    assert error.code == "identifier_type"


def test_rows_of_parquet_are_named_without_a_line(write):
    error = refused(write(pl.DataFrame({"id": ["x", None], "a": [1.0, 2.0]}), ".parquet"))
    assert error.code == "identifier_empty"
    assert "data row 2 without" in str(error)


# Cells.


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("", "value_missing"),
        ('""', "value_missing"),
        (" ", "value_missing"),
        ("NA", "value_missing"),
        ("null", "value_missing"),
        ("nan", "value_not_finite"),
        ("inf", "value_not_finite"),
        ("-Infinity", "value_not_finite"),
        ("1e999", "value_not_finite"),
        ("secret", "value_not_numeric"),
        ("1 000", "value_not_numeric"),
        ('"1,5"', "value_not_numeric"),
        ("0x10", "value_not_numeric"),
        ("2020-01-01", "value_not_numeric"),
    ],
)
@pytest.mark.parametrize("column", ["a", "y"])
def test_a_cell_that_is_no_finite_number_is_named_by_column_row_and_line(write, column, cell, code):
    rows = {"a": f"x,1,0\ny,{cell},1\n", "y": f"x,1,0\ny,2,{cell}\n"}[column]
    error = refused(write("id,a,y\n" + rows + "z,3,0\n"), label="y", task="linear")
    assert error.code == code
    assert f"column '{column}': data row 2 (line 3) has" in str(error)
    assert "secret" not in str(error)


def test_of_a_row_with_too_few_fields_it_is_said_that_it_has_too_few(write):
    error = refused(write("id,a,b\nx,1,2\ny,2\n"))
    assert error.code == "value_missing"
    assert "column 'b': data row 2 (line 3) has 2 fields, the header 3; write every field of the line" in str(error)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_infinity_is_not_said_to_be_mended_by_imputation(write, suffix):
    for endless in (float("inf"), float("-inf")):
        frame = pl.DataFrame({"id": ["x", "y", "z"], "a": [1.0, float("nan"), endless]})
        error = refused(write(frame if suffix == ".parquet" else frame.write_csv(), suffix))
        assert error.code == "value_not_finite"
        assert "data row 3" in str(error)
        assert "has infinity; imputation does not take it" in str(error)
    frame = pl.DataFrame({"id": ["x", "y"], "a": [1.0, float("nan")]})
    error = refused(write(frame if suffix == ".parquet" else frame.write_csv(), suffix))
    assert "has NaN; add imputation" in str(error)


def test_nulls_nan_and_wrong_types_of_parquet_are_refused(write):
    def code_of(values, dtype=None):
        frame = pl.DataFrame({"id": ["x", "y"], "a": pl.Series(values, dtype=dtype)})
        return refused(write(frame, ".parquet")).code

    assert code_of([1.0, None]) == "value_missing"
    assert code_of([None, None], pl.Null) == "value_missing"
    assert code_of([1.0, float("nan")]) == "value_not_finite"
    assert code_of([datetime.date(2020, 1, 1)] * 2) == "value_not_numeric"
    assert code_of([[1], [2]]) == "value_not_numeric"
    assert code_of([1, 2**53 + 1]) == "value_inexact"
    assert code_of([1, -(2**63)]) == "value_inexact"


@pytest.mark.parametrize("dtype", [pl.Int8, pl.UInt8, pl.Int16, pl.Int32, pl.UInt32, pl.Int64, pl.UInt64])
def test_integers_of_every_width_become_float64(write, dtype):
    largest = min(int(pl.select(dtype.max()).item()), 2**53 - 1)
    frame = pl.DataFrame({"id": ["x", "y"], "a": pl.Series([0, largest], dtype=dtype)})
    table = read_table(write(frame, ".parquet"), identifier="id")
    assert table.values[:, 0].tolist() == [0.0, float(largest)]


def test_a_constant_column_is_refused(write):
    error = refused(write("id,a,b\nx,1,5\ny,2,5.0\n"))
    assert (error.code, "column 'b'" in str(error)) == ("column_constant", True)


# Labels.


@pytest.mark.parametrize(
    ("task", "labels", "code"),
    [
        ("logistic", [0, 1, 2], "label_invalid"),
        ("logistic", [-1, 1, 1], "label_invalid"),
        ("logistic", [0, 0.5, 1], "label_invalid"),
        ("logistic", [1, 1, 1], "label_constant"),
        ("poisson", [0, 1, -1], "label_invalid"),
        ("poisson", [0, 1, 1.5], "label_invalid"),
        ("poisson", [0, 0, 0], "label_constant"),
        ("linear", [2.5, 2.5, 2.5], "label_constant"),
        ("linear", [2.5, "inf", 2.5], "value_not_finite"),
    ],
)
def test_labels_that_do_not_fit_the_task_are_refused(write, task, labels, code):
    path = write("id,y,a\n" + "".join(f"r{row},{label},{row}\n" for row, label in enumerate(labels)))
    error = refused(path, label="y", task=task)
    assert error.code == code
    assert "column 'y'" in str(error)


@pytest.mark.parametrize(
    ("task", "labels"),
    [("logistic", [0, 1, 1.0]), ("poisson", [0, 17, 3]), ("linear", [-1.5, 0, 2]), (None, [7, 8, -9])],
)
def test_labels_that_fit_the_task_are_taken(write, task, labels):
    path = write("id,y,a\n" + "".join(f"r{row},{label},{row}\n" for row, label in enumerate(labels)))
    assert read_table(path, identifier="id", label="y", task=task).label.tolist() == labels


def test_an_unknown_task_is_a_programming_error(write):
    with pytest.raises(ValueError, match="task 'trees'"):
        read_table(write(GOOD), identifier="id", label="y", task="trees")


# Digests.


def table_of(**changes):
    parts = {
        "identifiers": ["u", "v"],
        "columns": ("a", "b"),
        "values": np.array([[1.0, 2.0], [3.0, 4.0]]),
        "label": np.array([0.0, 1.0]),
    }
    return Table(**{**parts, **changes})


def test_the_data_digest_changes_with_every_part_of_a_table():
    tables = [
        table_of(),
        table_of(identifiers=["uv", ""]),
        table_of(columns=("b", "a")),
        table_of(columns=("a,b", "")),
        table_of(values=np.array([[1.0, 2.0], [3.0, np.nextafter(4.0, 5.0)]])),
        table_of(values=np.array([[1.0, 3.0], [2.0, 4.0]])),
        table_of(label=np.array([1.0, 0.0])),
        table_of(label=None),
    ]
    digests = [data_digest(table) for table in tables]
    assert len(set(digests)) == len(tables)
    assert {len(digest) for digest in digests} == {32}


def test_the_data_digest_knows_neither_memory_layout_nor_sign_of_zero():
    values = np.array([[0.0, 2.0], [3.0, 4.0]])
    negative = values.copy()
    negative[0, 0] = -0.0
    same = [values, np.asfortranarray(values), values.astype(">f8"), negative]
    assert len({data_digest(table_of(values=one)) for one in same}) == 1


def test_the_schema_digest_depends_on_columns_and_label_alone():
    assert schema_digest(table_of()) == schema_digest(table_of(identifiers=["p", "q"], values=np.ones((2, 2))))
    others = [table_of(columns=("b", "a")), table_of(columns=("ab", "")), table_of(label=None)]
    assert len({schema_digest(table) for table in [table_of(), *others]}) == 4


def test_a_salt_hides_names_that_could_be_guessed():
    assert len({digest(table_of(), salt=salt) for digest in (schema_digest, data_digest) for salt in (b"", b"s")}) == 4


def test_a_table_does_not_show_its_content(write):
    shown = repr(read_table(write(GOOD), identifier="id", label="y"))
    assert "007" not in shown
    assert "2.5" not in shown
