"""What a data set looks like before a job reads it: types, what is missing, what would be refused and why.

Counts and names only: no cell is ever shown.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from learning.columns.preparation import Encoding, Impute, Step
from services.tables.cells import FILL, categories_of, numbers_of
from services.tables.csv_files import Cells, Numbers
from services.tables.files import Elsewhere, TableError, TableFile, open_table
from services.tables.table import identifiers_of, read_table

IDENTIFIER: Final = "identifier"
LABEL: Final = "label"
FEATURE: Final = "feature"
UNUSED: Final = "not used"
_KINDS: Final = {"String": "text", "Boolean": "true or false", "Null": "nothing"}


@dataclass(frozen=True, slots=True)
class ColumnPreview:
    """One column.

    Attributes:
        name: as in the source.
        role: identifier, label, feature, or not used.
        type: in words.
        missing: rows without a value.
        distinct: different values, missing ones not counted.
        code: why it is refused; empty when it can be used.
        reason: the same as a sentence with what to do.

    """

    name: str
    role: str
    type: str
    missing: int
    distinct: int
    code: str = ""
    reason: str = ""

    @property
    def constant(self) -> bool:
        """Whether all rows have the same value."""
        return self.distinct <= 1


@dataclass(frozen=True, slots=True)
class Preview:
    """A data set.

    Attributes:
        rows: data rows.
        repeated: rows that share their identifier with another one.
        columns: all of them, in the source's order.
        code: why a job would refuse the data set; empty when it would not.
        reason: the same as a sentence with what to do.

    """

    rows: int
    repeated: int
    columns: tuple[ColumnPreview, ...]
    code: str
    reason: str


def preview(source: Path | Elsewhere, entry: Mapping[str, Any]) -> Preview:
    """Look at a data set of party.toml. Raises TableError when the source cannot be opened at all."""
    steps: Mapping[str, tuple[Step, ...]] = entry["steps"] or {}
    encoded = {name for name, chain in steps.items() if any(isinstance(step, Encoding) for step in chain)}
    file = open_table(source, texts={entry["id"], *encoded})
    chosen = set(entry["columns"] or file.columns) - {entry["id"], entry["label"]}
    roles = {
        name: IDENTIFIER
        if name == entry["id"]
        else LABEL
        if name == entry["label"]
        else FEATURE
        if name in chosen
        else UNUSED
        for name in file.columns
    }
    columns, repeated = [], 0
    for name, role in roles.items():
        try:
            cells = file.take(name)
        except TableError as error:
            columns.append(ColumnPreview(name, role, _type_in(error), 0, 0, error.code, error.message))
            continue
        held = dataclasses.replace(file, take=_again(cells))
        refused = None if role == UNUSED else _refused(held, name, role, steps.get(name, ()), encoded)
        code, reason = (refused.code, refused.message) if refused else ("", "")
        columns.append(ColumnPreview(name, role, _type_of(cells), *_counts(cells), code, reason))
        if role == IDENTIFIER and isinstance(cells, pl.Series):
            repeated = int(cells.cast(pl.String).is_duplicated().sum())
    features = list(entry["columns"]) or [name for name, role in roles.items() if role == FEATURE]
    verdict = _verdict(source, entry, features)
    return Preview(file.height, repeated, tuple(columns), *verdict)


def _again(cells: Cells) -> Callable[[str], Cells]:
    """A column that has been taken, to be taken by those who look at it."""
    return lambda _: cells


def _refused(file: TableFile, name: str, role: str, steps: tuple[Step, ...], encoded: set[str]) -> TableError | None:
    """Why a job would refuse a column."""
    try:
        if role == IDENTIFIER:
            identifiers_of(file, name)
        elif name in encoded:
            categories_of(file, name)
        elif role == LABEL:
            _label(file, name)
        else:
            values = numbers_of(file, name, missing=bool(steps) and isinstance(steps[0], Impute))
            known = values[~np.isnan(values)]
            if not len(known) or known.min() == known.max():
                what = "every row has the same value"
                return file.refusal("column_constant", what, "leave this column out", column=name)
    except TableError as error:
        return error
    return None


def _label(file: TableFile, name: str) -> None:
    """Names of classes are for a job of several classes; else labels are numbers. Raises TableError."""
    cells = file.take(name)
    if isinstance(cells, pl.Series) and cells.dtype == pl.String and not cells.null_count():
        return
    if isinstance(cells, Numbers) and len(cells.strange) and cells.absent is None:
        return
    numbers_of(file, name, remedy=FILL)


def _verdict(source: Path | Elsewhere, entry: Mapping[str, Any], features: list[str]) -> tuple[str, str]:
    """What a job that uses these columns would say first: the source is read once more, as it would be."""
    try:
        read_table(source, identifier=entry["id"], columns=features, steps=entry["steps"] or None)
    except TableError as error:
        return error.code, error.message
    return "", ""


def _type_of(cells: Cells) -> str:
    if isinstance(cells, Numbers):
        rest = len(cells.strange)
        return f"text in {rest:,} rows, else numbers" if rest else "number"
    name = str(cells.dtype)
    return _KINDS.get(name, name.lower())


def _type_in(error: TableError) -> str:
    """The type that a refusal names."""
    return error.message.partition("type ")[2].partition(",")[0] or "unknown"


def _counts(cells: Cells) -> tuple[int, int]:
    """(missing, distinct) of a column."""
    if isinstance(cells, Numbers):
        missing = 0 if cells.absent is None else int(cells.absent.sum())
        numbers = cells.values[~np.isnan(cells.values)]
        return missing, len(np.unique(numbers)) + bool(len(cells.strange))
    known = cells.drop_nulls()
    if cells.dtype == pl.String:
        known = known.filter(known.str.strip_chars() != "")
    return len(cells) - len(known), known.n_unique()
