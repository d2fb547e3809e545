"""What a party refuses about its own data stays in its own log: the partner reads a code."""

from pathlib import Path
from typing import Any

import pytest

from messages import codec
from tests.privacy.search import find
from tests.services.pair import Pair
from tests.services.test_job_machines import stage

SECRET = {
    "column": {b"roaming_minutes_qz"},
    "value": {b"987654321987"},
    "identifier": {b"person-00007", b"person-00031"},
    "file": {b"provider.csv"},
}


def spoilt(directory: Path, damage: str, **changes: Any) -> Pair:
    """A job whose provider has a column with a telling name, and something wrong with its table."""
    pair = stage(directory, 3, **changes)
    source = directory / "provider.csv"
    header, *rows = [line.split(",") for line in source.read_text().splitlines()]
    header[2] = "roaming_minutes_qz"
    for at, row in enumerate(rows):
        match damage:
            case "outlier" if at == 7:
                row[2] = "987654321987.5"
            case "text" if at == 7:
                row[2] = "a987654321987"
            case "missing" if at == 7:
                row[2] = ""
            case "constant":
                row[2] = "987654321987.5"
            case "same identifier" if at == 31:
                row[0] = rows[7][0]
    if damage == "few in common":
        rows = [[f"other-{row[0]}", *row[1:]] for row in rows]
    source.write_text("\n".join(",".join(row) for row in [header, *rows]) + "\n")
    return pair


@pytest.mark.parametrize(
    ("damage", "changes", "code"),
    [
        ("outlier", {}, "column_outlier"),
        ("text", {}, "dataset_unfit"),
        ("missing", {}, "dataset_unfit"),
        ("constant", {}, "dataset_unfit"),
        ("same identifier", {}, "dataset_unfit"),
        ("few in common", {}, "intersection_small"),
        ("none", {"identifier_schema": "email.v1"}, "identifier_malformed"),
    ],
)
def test_the_partner_learns_a_code_but_no_name_no_row_and_no_value(
    damage: str, changes: dict[str, Any], code: str, tmp_path: Path
) -> None:
    pair = spoilt(tmp_path, damage, **changes)
    pair.run()
    business, provider = pair.sides
    assert business.finish is not None
    assert business.finish.reason_code == code
    told = [codec.encode(message) for message in (*provider.sent, *business.sent)]
    assert find(SECRET, [*told, business.finish.reason.encode()]) == set()


def test_the_owner_reads_which_column_it_is(tmp_path: Path) -> None:
    pair = spoilt(tmp_path, "outlier")
    pair.run()
    provider = pair.sides[1]
    assert provider.finish is not None
    assert find({"column": SECRET["column"]}, [provider.finish.reason.encode()]) == {"column"}
