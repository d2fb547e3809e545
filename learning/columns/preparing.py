"""Preparations at work: settle categories, fit on training rows, apply to any rows.

All of it is the same for every order of the rows: sorts, counts and correctly rounded sums (docs/protocol.md,
section 7), so that a fitted preparation has the same bytes at every run. Logarithms are taken by the C library one by
one, not by vector code that may round otherwise in another width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from learning.columns.preparation import (
    CATEGORIES_MAX,
    ORDINAL_OTHER,
    Clip,
    Clipped,
    ColumnPreparation,
    Encoding,
    Filled,
    FittedColumn,
    FittedPreparation,
    FittedStep,
    Impute,
    Log,
    OneHot,
    Ordinal,
    Preparation,
    Standardise,
    Standardised,
    Step,
    category_text,
    column_words,
    place_of,
)

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

_IMPUTE_NUMBER: Final = 'add imputation as the first step: { step = "impute", by = "median" }'
_IMPUTE_TEXT: Final = 'add imputation as the first step: { step = "impute", by = "mode" }'


class PreparationRefused(ValueError):
    """Rows that the preparation cannot take; `code` may travel, all else stays at home.

    Attributes:
        code: value_missing, category_unseen, categories_many, log_domain, statistic_none,
            column_constant, column_missing or names_repeated.
        place: column and step in words.
        reason: what is wrong, in words that fit after "has" or "have".
        remedy: what to do.
        rows: which rows of the table given it is about; empty when it is about the column.

    """

    def __init__(self, code: str, place: str, reason: str, remedy: str, rows: Sequence[int] = ()) -> None:
        said = f"{len(rows)} row{'s have' if len(rows) > 1 else ' has'} {reason}" if rows else reason
        super().__init__(f"{place}: {said}; {remedy}")
        self.code = code
        self.place = place
        self.reason = reason
        self.remedy = remedy
        self.rows = tuple(rows)


@dataclass(frozen=True, slots=True, eq=False)
class SourceTable:
    """Rows as their owner has them.

    Attributes:
        columns: names of the source columns.
        values: shape (rows, columns), float64; NaN is a missing value. In a column of categories: their place in
            `categories`.
        categories: for each column the distinct texts that its cells hold, or None for a column of numbers.

    """

    columns: tuple[str, ...]
    values: Matrix = field(repr=False)
    categories: tuple[tuple[str, ...] | None, ...] = field(repr=False)

    def take(self, rows: NDArray[np.int64]) -> "SourceTable":
        """These rows, in this order."""
        return SourceTable(self.columns, self.values[rows], self.categories)


@dataclass(slots=True)
class _Column:
    """A column on its way: numbers, or places in `texts`; (n,) or, one-hot, (n, k)."""

    values: NDArray[np.float64]
    texts: tuple[str, ...] | None
    missing: Vector | None = None


def settle(preparation: Preparation, table: SourceTable) -> Preparation:
    """The preparation with all categories: where none are declared, those of the rows given.

    Raises PreparationRefused (categories_many, statistic_none, names_repeated).
    """
    settled = Preparation(columns=tuple(_settled(column, table) for column in preparation.columns))
    for place, name in enumerate(settled.names):
        if settled.names.index(name) < place:
            raise PreparationRefused(
                "names_repeated",
                settled.origins[place],
                "another prepared column has the same name",
                "rename the source column",
            )
    return settled


def _settled(column: ColumnPreparation, table: SourceTable) -> ColumnPreparation:
    encoding = column.encoding
    if encoding is None or encoding.categories:
        return column
    learned = _learn(column, encoding, _source(table, column.source))
    steps = tuple(learned if step is encoding else step for step in column.steps)
    return msgspec.structs.replace(column, steps=steps)


def fit(preparation: Preparation, table: SourceTable) -> FittedPreparation:
    """Learn from the rows given, which are the training rows of a job. `preparation` is settled.

    Raises PreparationRefused.
    """
    fitted = []
    for column in preparation.columns:
        state = _source(table, column.source)
        steps: list[FittedStep] = []
        for number, step in enumerate(column.steps):
            where = place_of(column.source, number, step)
            steps.append(_fit_step(step, state, where))
            state = _apply_step(steps[-1], state, where)
        fitted.append(FittedColumn(source=column.source, steps=tuple(steps)))
    return FittedPreparation(columns=tuple(fitted))


def apply(fitted: FittedPreparation, table: SourceTable) -> Matrix:
    """The prepared columns of any rows, shape (rows, len(fitted.names)), finite. Columns not named are not looked at.

    Raises PreparationRefused: missing values and unseen categories where the preparation does not say what they are.
    """
    rows = len(table.values)
    names = fitted.names
    matrix = np.empty((rows, len(names)), dtype=np.float64)
    place = 0
    for column in fitted.columns:
        state = _source(table, column.source)
        for number, step in enumerate(column.steps):
            state = _apply_step(step, state, place_of(column.source, number, step))
        values = state.values.reshape(rows, -1)
        if not np.isfinite(values).all():
            _refuse_missing(column_words(column.source), values, text=False)
        matrix[:, place : place + values.shape[1]] = values
        place += values.shape[1]
        if state.missing is not None:
            matrix[:, place] = state.missing
            place += 1
    return matrix


def _source(table: SourceTable, name: str) -> _Column:
    if name not in table.columns:
        raise PreparationRefused(
            "column_missing", column_words(name), "the table does not have it", "give the columns the model was made of"
        )
    place = table.columns.index(name)
    return _Column(table.values[:, place], table.categories[place])


def _learn(column: ColumnPreparation, encoding: Encoding, state: _Column) -> Encoding:
    """The encoding with the categories that the rows hold."""
    where = place_of(column.source, column.steps.index(encoding), encoding)
    assert state.texts is not None
    counts = _counts(state)
    impute = column.steps[0]
    missing = int(np.isnan(state.values).sum())
    if isinstance(impute, Impute) and impute.constant is not None and missing:
        filled = category_text(impute.constant)
        counts[filled] = counts.get(filled, 0) + missing
    found = [text for text, count in counts.items() if count >= encoding.rows_min]
    if not found:
        raise PreparationRefused(
            "statistic_none", where, f"no category is in {encoding.rows_min} rows", "lower rows_min, or leave it out"
        )
    if len(found) > CATEGORIES_MAX:
        raise PreparationRefused(
            "categories_many",
            where,
            f"the column has {len(found)} categories, {CATEGORIES_MAX} at most",
            'group them, or set rows_min and unseen = "other", or leave the column out',
        )
    return msgspec.structs.replace(encoding, categories=tuple(_ordered(found)))


def _ordered(texts: list[str]) -> list[str]:
    """By their numbers, or by their letters when not all are numbers."""
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return sorted(texts)
    if not all(map(math.isfinite, numbers)):
        return sorted(texts)
    return [text for _, text in sorted(zip(numbers, texts, strict=True))]


def _counts(state: _Column) -> dict[str, int]:
    assert state.texts is not None
    places = state.values[~np.isnan(state.values)].astype(np.int64)
    counts = np.bincount(places, minlength=len(state.texts))
    return {text: int(count) for text, count in zip(state.texts, counts, strict=True) if count}


# -- fitting one step ---------------------------------------------------------------------------------------


def _fit_step(step: Step, state: _Column, where: str) -> FittedStep:
    match step:
        case Impute():
            return _fit_impute(step, state, where)
        case Clip():
            if step.quantiles is None:
                return Clipped(low=step.low, high=step.high)
            low, high = np.quantile(np.sort(_present(state, where)), step.quantiles)
            return Clipped(low=float(low), high=float(high))
        case Standardise():
            return _fit_standardise(_present(state, where), where)
        case Log() | OneHot() | Ordinal():
            return step


def _present(state: _Column, where: str) -> Vector:
    """The values, of which none may be missing."""
    _refuse_missing(where, state.values, text=state.texts is not None)
    return state.values


def _fit_impute(step: Impute, state: _Column, where: str) -> Filled:
    if step.constant is not None:
        if state.texts is None:
            return Filled(number=float(step.constant), indicator=step.indicator)
        return Filled(category=category_text(step.constant), indicator=step.indicator)
    if state.texts is not None:
        counts = _counts(state)
        if counts:
            most = max(counts.values())
            first = _ordered([text for text, count in counts.items() if count == most])[0]
            return Filled(category=first, indicator=step.indicator)
    else:
        known = np.sort(state.values[~np.isnan(state.values)])
        if len(known):
            return Filled(number=_centre_of(step.by, known), indicator=step.indicator)
    raise PreparationRefused("statistic_none", where, "no training row has a value", "leave the column out")


def _centre_of(by: str, known: Vector) -> float:
    """The median, mean or mode of sorted values."""
    if by == "median":
        return float(np.median(known))
    if by == "mean":
        return math.fsum(known.tolist()) / len(known)
    distinct, counts = np.unique(known, return_counts=True)
    return float(distinct[np.argmax(counts)])


def _fit_standardise(values: Vector, where: str) -> Standardised:
    mean = math.fsum(values.tolist()) / len(values)
    distances = values - mean
    deviation = math.sqrt(math.fsum((distances * distances).tolist()) / len(values))
    if values.min() == values.max() or not 0.0 < deviation < math.inf:
        raise PreparationRefused(
            "column_constant", where, "the training rows do not differ in it", "leave the column out"
        )
    return Standardised(mean=mean, deviation=deviation)


# -- applying one step --------------------------------------------------------------------------------------


def _apply_step(step: FittedStep, state: _Column, where: str) -> _Column:
    match step:
        case Filled():
            return _fill(step, state)
        case Clipped():
            low = -math.inf if step.low is None else step.low
            high = math.inf if step.high is None else step.high
            return _Column(np.clip(_present(state, where), low, high), None, state.missing)
        case Log():
            return _Column(_logarithms(step, _present(state, where), where), None, state.missing)
        case Standardised():
            return _Column((_present(state, where) - step.mean) / step.deviation, None, state.missing)
        case OneHot() | Ordinal():
            return _Column(_encoded(step, state, where), None, state.missing)


def _fill(step: Filled, state: _Column) -> _Column:
    missing = np.isnan(state.values)
    value, texts = step.number, state.texts
    if texts is not None:
        texts = texts if step.category in texts else (*texts, step.category)
        value = float(texts.index(step.category))
    indicator = missing.astype(np.float64) if step.indicator else None
    return _Column(np.where(missing, value, state.values), texts, indicator)


def _logarithms(step: Log, values: Vector, where: str) -> Vector:
    if step.kind == "signed":
        return np.array([math.copysign(math.log1p(abs(value)), value) for value in values.tolist()])
    low = np.flatnonzero(values <= -1.0)
    if len(low):
        raise PreparationRefused(
            "log_domain",
            where,
            "a value of -1 or less",
            'clip it first: { step = "clip", low = 0 }, or use kind = "signed"',
            low.tolist(),
        )
    return np.array([math.log1p(value) for value in values.tolist()])


def _encoded(step: Encoding, state: _Column, where: str) -> NDArray[np.float64]:
    """Categories as numbers: (n, k) of 0 and 1, or (n,) of places."""
    places = _present(state, where).astype(np.int64)
    known = {category_text(category): number for number, category in enumerate(step.categories)}
    strange = len(known)
    numbers = np.array([known.get(text, strange) for text in state.texts or ()], dtype=np.int64)
    found = numbers[places]
    unseen = np.flatnonzero(found == strange)
    if len(unseen) and step.unseen == "error":
        raise PreparationRefused(
            "category_unseen",
            where,
            "a category that is none of those declared or learned",
            'add it to `categories`, or say unseen = "other"',
            unseen.tolist(),
        )
    if isinstance(step, Ordinal):
        return np.where(found == strange, ORDINAL_OTHER, found.astype(np.float64))
    hot = np.zeros((len(found), strange + 1))
    hot[np.arange(len(found)), found] = 1.0
    return hot[:, int(step.drop_first) : strange + int(step.unseen == "other")]


def _refuse_missing(where: str, values: NDArray[np.float64], *, text: bool) -> None:
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if bad.any():
        raise PreparationRefused(
            "value_missing", where, "no value", _IMPUTE_TEXT if text else _IMPUTE_NUMBER, np.flatnonzero(bad).tolist()
        )
