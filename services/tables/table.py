"""Input tables of a party, checked before a job sees them.

A table that cannot be trained on is refused here, with the file, the column and the row, and with what to do
about it; never later, by a number that is quietly wrong. Cells and identifiers are private: no error text
shows one.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from learning.columns.preparation import Encoding, Impute, Preparation, PreparationError, Step, declare
from learning.columns.preparing import PreparationRefused, SourceTable, apply, fit, settle
from learning.links.family import MULTICLASS, TASKS
from services.tables.cells import FILL, categories_of, numbers_of, texts_of
from services.tables.files import Elsewhere, TableError, TableFile, open_table, shown
from services.tables.row_columns import NOTHING_BESIDE, RowColumns

__all__ = ["Table", "TableError", "data_digest", "read_table", "schema_digest"]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

_COLUMNS_NAMED_MAX: Final = 20
CLASSES_MIN: Final = 3
_CONSTANT: Final = ("every row has the same value", "leave this column out")


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A checked table.

    Attributes:
        identifiers: one per row, unique, as written in the file.
        columns: names of the features.
        values: shape (rows, columns), float64, row-major. Without a preparation finite, and no column is constant.
        label: shape (rows,), float64, None without a label column.
        preparation: what is to be done with the columns before training, settled; None: nothing.
        classes: what labels are places in, for a model of several classes.
        weight, offset: shape (rows,), what `services.tables.row_columns` says; None where there is none.
        beside: the names of the columns that these are made of.
        categories: with a preparation for each column the texts that `values` are places in, None for numbers.

    """

    identifiers: list[str] = field(repr=False)
    columns: tuple[str, ...]
    values: Matrix = field(repr=False)
    label: Vector | None = field(default=None, repr=False)
    preparation: Preparation | None = field(default=None, repr=False)
    categories: tuple[tuple[str, ...] | None, ...] = field(default=(), repr=False)
    classes: tuple[str, ...] = field(default=(), repr=False)
    weight: Vector | None = field(default=None, repr=False)
    offset: Vector | None = field(default=None, repr=False)
    beside: RowColumns = NOTHING_BESIDE

    @property
    def prepared_columns(self) -> tuple[str, ...]:
        """Names of the columns that are trained on."""
        return self.columns if self.preparation is None else self.preparation.names

    @property
    def source(self) -> SourceTable:
        """The rows as a preparation takes them."""
        return SourceTable(self.columns, self.values, self.categories or (None,) * len(self.columns))


def read_table(
    path: Path | Elsewhere,
    *,
    identifier: str,
    label: str | None = None,
    columns: Sequence[str] | None = None,
    task: str | None = None,
    steps: Mapping[str, tuple[Step, ...]] | None = None,
    beside: RowColumns = NOTHING_BESIDE,
) -> Table:
    """Read and check a CSV file (UTF-8, commas, a header line), a Parquet file, or what a query gives.

    Args:
        path: ends in .csv or .parquet; or a source that is no file.
        identifier: name of the identifier column. Text stays as written: "007" is not 7.
        label: name of the label column, if the table has one.
        columns: names of the feature columns, in the order wanted; None takes all others in the file's order.
        task: "logistic" (labels 0 and 1), "poisson" (counts), "gamma" (above 0), "tweedie" (0 or more) or
            "linear"; "multiclass": labels are names of classes; None checks only that labels are finite.
        beside: columns with weights, exposures and offsets of rows: no features.
        steps: the preparation of each column that has one; without any, every column is a number in every row.

    Raises:
        TableError: the file cannot be used as it is.
        ValueError: `task` is none of these.

    """
    if task is not None and task not in (*TASKS, MULTICLASS):
        raise ValueError(f"task {task!r} is none of {', '.join((*TASKS, MULTICLASS))}")
    file = open_table(
        path,
        texts=_texts(identifier, label if task == MULTICLASS else None, steps),
        wanted=None if columns is None else {identifier, label or identifier, *columns, *beside.names},
    )
    chosen = choose_columns(file, identifier, label, columns, beside.names)
    if not file.height:
        raise file.refusal("rows_none", "there are no data rows", "export the table again")
    identifiers = identifiers_of(file, identifier)
    values = np.empty((file.height, len(chosen)), dtype=np.float64)
    preparation: Preparation | None = None
    categories: tuple[tuple[str, ...] | None, ...] = ()
    if steps:
        preparation, categories = _read_sources(file, chosen, steps, values)
    else:
        for place, name in enumerate(chosen):
            values[:, place] = numbers_of(file, name)
            if values[:, place].min() == values[:, place].max():
                raise file.refusal("column_constant", *_CONSTANT, column=name)
    labels = None
    classes: tuple[str, ...] = ()
    if label is not None and task == MULTICLASS:
        labels, classes = _classes_of(file, label)
    elif label is not None:
        labels = numbers_of(file, label, remedy=FILL)
        _check_label(file, label, labels, task)
    weight, offset = beside.read(file, task)
    return Table(
        identifiers=identifiers,
        columns=chosen,
        values=values,
        label=labels,
        preparation=preparation,
        categories=categories,
        classes=classes,
        weight=weight,
        offset=offset,
        beside=beside,
    )


def _texts(identifier: str, label: str | None, steps: Mapping[str, tuple[Step, ...]] | None) -> set[str]:
    """Columns whose cells are no numbers, whatever is written in them."""
    encoded = {name for name, chain in (steps or {}).items() if any(isinstance(step, Encoding) for step in chain)}
    return {identifier, *encoded, *([label] if label else [])}


def _read_sources(
    file: TableFile, chosen: tuple[str, ...], steps: Mapping[str, tuple[Step, ...]], values: Matrix
) -> tuple[Preparation, tuple[tuple[str, ...] | None, ...]]:
    """Fill `values` with the source columns; the settled preparation and the categories of each column.

    The preparation is tried on all rows, so that what it cannot take is told with its line, before there is a job.
    """
    try:
        declared = declare(dict(steps), chosen)
    except PreparationError as error:
        raise TableError("preparation_unfit", f"{file.path}, {error}") from None
    categories: list[tuple[str, ...] | None] = []
    for place, column in enumerate(declared.columns):
        texts = None
        if column.encoding is None:
            imputed = bool(column.steps) and isinstance(column.steps[0], Impute)
            values[:, place] = numbers_of(file, column.source, missing=imputed)
        else:
            values[:, place], texts = categories_of(file, column.source)
        categories.append(texts)
    source = SourceTable(chosen, values, tuple(categories))
    try:
        settled = settle(declared, source)
        _try(file, settled, source)
    except PreparationRefused as error:
        found = np.array(error.rows, dtype=np.intp)
        said = (
            f"{file.rows(found)} {'have' if len(found) > 1 else 'has'} {error.reason}" if len(found) else error.reason
        )
        raise TableError(error.code, f"{file.path}, {error.place}: {said}; {error.remedy}") from None
    return settled, source.categories


def _try(file: TableFile, settled: Preparation, source: SourceTable) -> None:
    """Prepare column by column, and forget it: only the training rows of a job are fitted on. Raises TableError."""
    for column in settled.columns:
        alone = Preparation(columns=(column,))
        matrix = apply(fit(alone, source), source)
        for origin, constant in zip(alone.origins, matrix.min(axis=0) == matrix.max(axis=0), strict=True):
            if constant:
                what, remedy = _CONSTANT
                raise TableError("column_constant", f"{file.path}, {origin}: {what}; {remedy}")


def schema_digest(table: Table, *, salt: bytes = b"") -> bytes:
    """SHA-256 of the columns' names in order, of their preparation and of whether there is a label, 32 bytes.

    Column names can be guessed: give a secret `salt` where a partner may see the digest.
    """
    digest = hashlib.sha256(b"warren table schema v1\x00")
    _feed(digest, [salt, b"label" if table.label is not None else b""])
    _feed(digest, [name.encode() for name in table.columns])
    if table.preparation is not None:
        _feed(digest, [msgspec.msgpack.encode(table.preparation)])
    return digest.digest()


def data_digest(table: Table, *, salt: bytes = b"") -> bytes:
    """SHA-256 of the whole table, row by row as in the file, 32 bytes: equal exactly if the content is.

    Independent of the file's format: the same table as CSV and as Parquet has one digest.
    """
    digest = hashlib.sha256(b"warren table data v1\x00")
    _feed(digest, [schema_digest(table, salt=salt)])
    _feed(digest, (text.encode("utf-8", "surrogatepass") for text in table.identifiers), len(table.identifiers))
    arrays = [part for part in (table.values, table.label, table.weight, table.offset) if part is not None]
    # Adding zero makes one spelling of 0.0 and -0.0, which compare equal.
    _feed(digest, [np.ascontiguousarray(array + 0.0, dtype="<f8").tobytes() for array in arrays])
    if table.classes:
        _feed(digest, [text.encode() for text in table.classes])
    for texts in table.categories:
        _feed(digest, [text.encode() for text in texts or ()])
    return digest.digest()


def _feed(digest: "hashlib._Hash", parts: Iterable[bytes], count: int | None = None) -> None:
    """`count` parts; without it, all of a list."""
    parts = parts if count is not None else list(parts)
    digest.update((len(parts) if isinstance(parts, list) else count or 0).to_bytes(8, "big"))
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)


def choose_columns(
    file: TableFile,
    identifier: str,
    label: str | None,
    columns: Sequence[str] | None,
    beside: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """The feature columns, in the order wanted: `columns`, or all that are neither identifier nor label.

    Raises TableError.
    """
    present = file.columns
    named = ", ".join(map(shown, present[:_COLUMNS_NAMED_MAX])) + (", ..." if len(present) > _COLUMNS_NAMED_MAX else "")
    looked_for = ((identifier, "identifier_missing"), (label, "label_missing"))
    for name, code in (*looked_for, *((name, "row_column_missing") for name in beside)):
        if name is not None and name not in present:
            raise file.refusal(code, "there is no such column", f"choose one of: {named}", column=name)
    if identifier == label:
        raise file.refusal("column_reserved", "cannot be identifier and label", "name another label", column=identifier)
    reserved = {identifier, label, *beside}
    if len(beside) != len(reserved - {identifier, label}):
        raise file.refusal("column_reserved", "has two meanings", "name another column", column=beside[0])
    chosen = tuple(name for name in present if name not in reserved) if columns is None else tuple(columns)
    for name, count in Counter(chosen).items():
        if name in reserved:
            raise file.refusal(
                "column_reserved",
                "is no feature but identifier, label, weight or offset",
                "leave it out of the features",
                column=name,
            )
        if name not in present:
            raise file.refusal("column_missing", "there is no such column", f"choose from: {named}", column=name)
        if count > 1:
            raise file.refusal("column_repeated", "is chosen twice", "choose it once", column=name)
    if not chosen:
        raise file.refusal("columns_none", "there are no feature columns", "add at least one")
    return chosen


def identifiers_of(file: TableFile, name: str) -> list[str]:
    """The identifiers, as written in the file: none empty, none twice. Raises TableError."""
    series = texts_of(file, name)
    if not (series.dtype.is_integer() or series.dtype in (pl.String, pl.Categorical, pl.Enum)):
        raise file.refusal("identifier_type", f"has the type {series.dtype}", "save identifiers as text", column=name)
    text = series.cast(pl.String)
    empty = np.flatnonzero((text.is_null() | (text.str.strip_chars() == "")).fill_null(value=True).to_numpy())
    if len(empty):
        raise file.refusal(
            "identifier_empty", f"{file.rows(empty)} without identifier", "remove these rows", column=name
        )
    if not _distinct(text):
        repeated = np.flatnonzero(text.is_duplicated().to_numpy())
        same = np.flatnonzero((text == text[int(repeated[0])]).to_numpy())
        others = len(repeated) - len(same)
        also = f" ({others} other rows share identifiers as well)" if others else ""
        raise file.refusal(
            "identifier_duplicate",
            f"{file.rows(same)} have the same identifier{also}",
            "keep one row per identifier",
            column=name,
        )
    return text.to_list()


def _distinct(text: pl.Series) -> bool:
    """Whether no two are equal. By sorted hashes first: a table of a million texts takes far more memory."""
    hashes = np.sort(text.hash().to_numpy())
    return not bool((hashes[1:] == hashes[:-1]).any()) or not bool(text.is_duplicated().any())


def _classes_of(file: TableFile, name: str) -> tuple[Vector, tuple[str, ...]]:
    """Labels as places in the sorted names of at least three classes."""
    labels, classes = categories_of(file, name)
    missing = np.flatnonzero(np.isnan(labels))
    if len(missing):
        raise file.refusal("value_missing", f"{file.rows(missing)} without a class", FILL.missing, column=name)
    if len(classes) < CLASSES_MIN:
        what = f"has {len(classes)} classes"
        raise file.refusal("label_invalid", what, "name three or more, or train a logistic model", column=name)
    return labels, classes


def _check_label(file: TableFile, name: str, labels: Vector, task: str | None) -> None:
    bad = np.zeros(len(labels), dtype=np.bool_)
    what, remedy = "", ""
    if task == "logistic":
        bad = (labels != 0) & (labels != 1)
        what, remedy = "a label other than 0 and 1", "code the two classes as 0 and 1"
    elif task == "poisson":
        bad = (labels < 0) | (labels != np.floor(labels))
        what, remedy = "a label that is no count", "give counts 0, 1, 2, ... or train a linear model"
    elif task == "gamma":
        bad = labels <= 0
        what, remedy = "a label that is not above 0", "leave these rows out or train a tweedie model"
    elif task == "tweedie":
        bad = labels < 0
        what, remedy = "a label below 0", "give amounts of 0 or more or train a linear model"
    if bad.any():
        indices = np.flatnonzero(bad)
        verb = "have" if len(indices) > 1 else "has"
        raise file.refusal("label_invalid", f"{file.rows(indices)} {verb} {what}", remedy, column=name)
    if labels.min() == labels.max():
        what = "has one class only" if task == "logistic" else "has the same value in every row"
        raise file.refusal("label_constant", what, "choose another label or add rows that differ", column=name)
