"""A party's table of standard errors: its files and what a terminal shows of it."""

import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from services.cli.figures import coefficients
from services.party.configuration import ConfigError
from services.results import inference_files


def one(name: str, **fields: Any) -> dict[str, Any]:
    filled = {"estimate": 0.5, "estimate_noise": 0.001, "error": 0.1, "error_noise": 0.0001, "z": 5.0, "p": 5.7e-7}
    return {"name": name, **filled, "p_at_most": 6e-7, "lower": 0.3, "upper": 0.7, "note": "", **fields}


NOTHING = dict.fromkeys(("estimate_noise", "error", "error_noise", "z", "p", "p_at_most", "lower", "upper"))
FILE = json.dumps(
    {
        "task": "logistic",
        "role": "provider",
        "rows": 1000,
        "l2": 0.0,
        "dispersion": 1.0,
        "coefficients": [
            one("calls"),
            one("[red]visits", z=1.5, p=0.1336, p_at_most=0.14),
            one("spend", p=None, p_at_most=0.0021, note="not reported (release noise)"),
            one("twin", **NOTHING, note="not reported (release noise)"),
        ],
    }
).encode()


def test_csv_has_a_line_for_each_coefficient_and_gaps_where_nothing_is_known(tmp_path: Path) -> None:
    inference_files.write(tmp_path / "new", FILE)
    assert (tmp_path / "new" / "inference.json").read_bytes() == FILE
    table = pl.read_csv(tmp_path / "new" / "inference.csv")
    assert table["name"].to_list() == ["calls", "[red]visits", "spend", "twin"]
    assert table["p"].to_list() == [5.7e-7, 0.1336, None, None]
    assert table["error"].to_list()[-1] is None
    assert (tmp_path / "new" / "coefficients.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_people_read_p_values_and_bounds_and_names_as_they_are() -> None:
    text = io.StringIO()
    Console(file=text, width=120).print(inference_files.table("Errors", inference_files.read(FILE)))
    shown = {line.split()[0]: line for line in text.getvalue().splitlines()[2:]}
    assert "< 0.0001" in shown["calls"]
    assert "0.1336" in shown["[red]visits"]
    assert "< 0.003" in shown["spend"]
    assert shown["twin"].split()[1:] == ["+0.50000", "not", "reported"]


@pytest.mark.parametrize(("bound", "shown"), [("0.002", "< 0.002 "), ("0.0499", "< 0.05 "), ("0.06", "not reported")])
def test_a_bound_is_never_rounded_below_itself(bound: str, shown: str) -> None:
    file = inference_files.read(FILE.replace(b"0.0021", bound.encode()))
    text = io.StringIO()
    Console(file=text, width=120).print(inference_files.table("Errors", file))
    assert shown in next(line for line in text.getvalue().splitlines() if "spend" in line)


def test_the_command_shows_and_writes_and_names_what_is_no_such_file(tmp_path: Path) -> None:
    path = tmp_path / "inference.json"
    path.write_bytes(FILE)
    assert coefficients(path, tmp_path / "out") == 0
    assert (tmp_path / "out" / "inference.csv").exists()
    with pytest.raises(ConfigError, match="there is no such file"):
        coefficients(tmp_path / "none.json")
    path.write_bytes(b"{}")
    with pytest.raises(ConfigError, match=r"no inference\.json"):
        coefficients(path)
