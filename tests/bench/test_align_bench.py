"""`warren bench align` at tiny sizes, and how its figures are printed."""

import io
import json

import pytest
from rich.console import Console

from bench.align import intersect, measure, operations
from bench.tables import show
from services.cli import app
from services.cli.failures import DONE, guarded


@pytest.fixture(scope="module")
def report():
    return measure(items=8, seconds=0.0)


def printed(report, *, markdown):
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=160, highlight=False)
    show(report, console, markdown=markdown)
    return console.file.getvalue()


def test_the_intersection_that_is_timed_finds_the_common_items_in_one_order():
    first, second = ([b"%d" % number for number in numbers] for numbers in (range(7), range(4, 12)))
    left, right = intersect([first, second])
    assert left.count == right.count == 3
    assert left.digest == right.digest
    assert [first[row] for row in left.own_rows] == [second[row] for row in right.own_rows]


def test_the_json_has_every_operation_by_every_path_and_without_the_kernel(report):
    values = json.loads(json.dumps(report.to_json()))
    assert (values["benchmark"], values["items"]) == ("align", 8)
    assert [row["operation"] for row in values["rows"]] == [operation.key for operation in operations()]
    for row in values["rows"]:
        assert {*values["kernel"]["paths"], "python"} <= row["figures"].keys()
    mask = values["rows"][1]
    assert mask["wanted"] == 4
    assert mask["ratios"]["python"]["cryptography"]["ratio"] == pytest.approx(
        mask["figures"]["cryptography"]["microseconds"] / mask["figures"]["python"]["microseconds"]
    )
    assert (mask["met"] is None) == (values["kernel"]["path"] is None)


def test_every_column_is_measured_or_says_why_not(report):
    measured = {key for row in report.rows for key in row.figures}
    for column in report.columns:
        assert (column.key in measured) == (column.absent == "")


def test_a_side_without_items_is_refused():
    with pytest.raises(ValueError, match="at least one item"):
        measure(items=0)


def test_a_terminal_gets_a_table_and_markdown_if_asked(report):
    table, markdown = printed(report, markdown=False), printed(report, markdown=True)
    assert "|" not in table
    assert "|---|" in markdown
    for text in (table, markdown):
        assert "map to the curve" in text
        assert "`mask_many`, 8" in text
        assert f"cryptography: {report.versions['cryptography']}, 1 thread" in text


@pytest.mark.parametrize("option", ["--json", "--markdown", None])
def test_the_command_prints_one_json_value_or_markdown_when_piped(option, monkeypatch, capsys):
    options = [] if option is None else [option]
    monkeypatch.setattr("sys.argv", ["warren", "bench", "align", "--items", "4", "--seconds", "0", *options])
    assert guarded(app) == DONE
    printed = capsys.readouterr().out
    if option == "--json":
        assert json.loads(printed)["items"] == 4
    else:
        assert printed.startswith("**Alignment**\n\n| microseconds | per |")


def test_the_paillier_command_prints_one_json_value(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["warren", "bench", "paillier", "--bits", "256", "--seconds", "0", "--json"])
    assert guarded(app) == DONE
    values = json.loads(capsys.readouterr().out)
    assert (values["benchmark"], values["bits"]) == ("paillier", 256)
