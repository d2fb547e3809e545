"""A party's table of standard errors as files: JSON as the job gave it, CSV for tables, PNG and a table for people."""

import csv
import io
import math
from pathlib import Path

import msgspec
from rich.table import Table

from learning.inference.standard_errors import Estimate
from services.party.plain_text import plain


class InferenceFile(msgspec.Struct, frozen=True, kw_only=True):
    """`inference.json`: what a party knows of its own coefficients' errors after a job that asked for them."""

    task: str
    role: str
    rows: int
    l2: float
    dispersion: float
    coefficients: tuple[Estimate, ...]


class InferenceFileError(ValueError):
    """A file that is no `inference.json`; the text says what is wrong with it."""


def read(data: bytes) -> InferenceFile:
    """Read `inference.json`. Raises InferenceFileError."""
    try:
        return msgspec.json.decode(data, type=InferenceFile)
    except msgspec.MsgspecError as error:
        raise InferenceFileError(f"this is no inference.json: {error}") from None


def write(directory: Path, data: bytes) -> None:
    """Write inference.json, inference.csv and coefficients.png into `directory`. Raises InferenceFileError."""
    found = read(data)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "inference.json").write_bytes(data)
    (directory / "inference.csv").write_text(as_csv(found), encoding="utf-8")
    # matplotlib takes 35 MB and a second: only who draws pays for it.
    from services.results.plots import plot_coefficients

    plot_coefficients(directory / "coefficients.png", found.coefficients)


def as_csv(found: InferenceFile) -> str:
    """One line for each coefficient, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in msgspec.structs.fields(Estimate)], lineterminator="\n")
    writer.writeheader()
    for one in found.coefficients:
        writer.writerow(msgspec.to_builtins(one))
    return text.getvalue()


def table(title: str, found: InferenceFile) -> Table:
    """The table for people."""
    shown = Table(title=title, title_justify="left", box=None)
    shown.add_column("")
    for name in ("estimate", "error", "z", "p", "95 % interval"):
        shown.add_column(name, justify="right")
    for one in found.coefficients:
        interval = "" if one.lower is None or one.upper is None else f"{one.lower:+.5f} {one.upper:+.5f}"
        shown.add_row(
            plain(one.name),
            f"{one.estimate:+.5f}",
            "" if one.error is None else f"{one.error:.5f}",
            "" if one.z is None else f"{one.z:+.2f}",
            _p(one),
            interval,
        )
    return shown


def _p(one: Estimate) -> str:
    """The p-value, or what can be said of it."""
    if one.p is not None:
        return f"{one.p:.4f}" if one.p >= 0.0001 else "< 0.0001"
    if one.p_at_most is not None and one.p_at_most < 0.05:
        return f"< {_up(max(one.p_at_most, 0.0001))}"
    return "not reported"


def _up(value: float) -> str:
    """A bound in one digit, rounded up."""
    digits = -math.floor(math.log10(value))
    return f"{math.ceil(round(value * 10**digits, 9)) / 10**digits:g}"
