"""What an owner declares to be done with each of its columns before training, and what it became once fitted.

A *preparation* lists every feature column of a data set with its steps. It is *settled* when its categories are
known: declared, or learned from all rows of the data set, because they decide the number of columns, which is
agreed before alignment. It is *fitted* on the aligned rows of a job: what steps learn from the numbers (medians,
quantiles, means) must not tell of rows that are not in the job. The fitted form is part of the model and is applied
again at scoring. `learning.columns.preparing` does the work; docs/preparation.md has the reasons.

A prepared column is named after its source: "income", "income=(missing)", "sex=female", "sex=(other)". Sources,
categories and statistics are private: error texts name columns and steps, never a category or a value.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

CATEGORIES_MAX: Final = 1000
"""Of one column. More is an identifier or free text, which no linear model learns from."""

STEPS_MAX: Final = 16
_NAME_LETTERS_MAX: Final = 60
MISSING: Final = "(missing)"
OTHER: Final = "(other)"
ORDINAL_OTHER: Final = -1.0

Unseen = Literal["error", "ignore", "other"]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]


class PreparationError(ValueError):
    """A declaration that means nothing; the text names column and step, and what to write instead."""


class Impute(msgspec.Struct, frozen=True, tag_field="step", tag="impute", forbid_unknown_fields=True):
    """Fill in missing values. `mode`: the most frequent value, of several the smallest.

    `indicator`: a further column that is 1 where the value was missing.
    """

    by: Literal["median", "mean", "mode", "constant"]
    constant: float | str | None = None
    indicator: bool = False


class Clip(msgspec.Struct, frozen=True, tag_field="step", tag="clip", forbid_unknown_fields=True):
    """Bring values into [low, high], or between two quantiles of the training rows (linear interpolation)."""

    low: float | None = None
    high: float | None = None
    quantiles: tuple[Fraction, Fraction] | None = None


class Log(msgspec.Struct, frozen=True, tag_field="step", tag="log", forbid_unknown_fields=True):
    """`log1p`: log(1 + x), for x > -1. `signed`: sign(x) log(1 + |x|)."""

    kind: Literal["log1p", "signed"] = "log1p"


class Standardise(msgspec.Struct, frozen=True, tag_field="step", tag="standardise", forbid_unknown_fields=True):
    """Subtract the mean and divide by the standard deviation (of all n rows, not n - 1)."""


class OneHot(msgspec.Struct, frozen=True, tag_field="step", tag="one_hot", forbid_unknown_fields=True):
    """One column of 0 and 1 for each category.

    Without `categories` they are learned: all that are in at least `rows_min` rows of the data set. A value that is
    none of them is an `error`, is all zeros (`ignore`), or has a column of its own (`other`), in training as in
    scoring. `drop_first`: the first category has no column; it is what the others are compared with.
    """

    categories: tuple[str | int | float, ...] = ()
    unseen: Unseen = "error"
    rows_min: Annotated[int, Meta(ge=1)] = 1
    drop_first: bool = False


class Ordinal(msgspec.Struct, frozen=True, tag_field="step", tag="ordinal", forbid_unknown_fields=True):
    """The place of the value in `categories`, from 0; `other`: -1 for a value that is none of them.

    Without `categories` they are learned, in the order of their numbers, or of their letters when not all are numbers.
    """

    categories: tuple[str | int | float, ...] = ()
    unseen: Literal["error", "other"] = "error"
    rows_min: Annotated[int, Meta(ge=1)] = 1


Step = Impute | Clip | Log | Standardise | OneHot | Ordinal
Encoding = OneHot | Ordinal


class Filled(msgspec.Struct, frozen=True, tag_field="step", tag="filled"):
    """A fitted `Impute`: what missing values become, a number or, before an encoding, a category."""

    number: float = 0.0
    category: str = ""
    indicator: bool = False


class Clipped(msgspec.Struct, frozen=True, tag_field="step", tag="clipped"):
    """A fitted `Clip`."""

    low: float | None = None
    high: float | None = None


class Standardised(msgspec.Struct, frozen=True, tag_field="step", tag="standardised"):
    """A fitted `Standardise`; `deviation` is above 0."""

    mean: float
    deviation: float


FittedStep = Filled | Clipped | Log | Standardised | OneHot | Ordinal


class ColumnPreparation(msgspec.Struct, frozen=True):
    """A source column with its steps, in order; none: it is taken as it is, a number that is never missing."""

    source: str
    steps: tuple[Step, ...] = ()

    @property
    def encoding(self) -> Encoding | None:
        """The step that makes numbers of categories, if there is one: then the source's cells are text."""
        return _encoding_of(self.steps)

    @property
    def names(self) -> tuple[str, ...]:
        """The prepared columns. Categories must be settled."""
        return _names(self.source, self.steps)


class FittedColumn(msgspec.Struct, frozen=True):
    """A source column with its fitted steps."""

    source: str
    steps: tuple[FittedStep, ...] = ()

    @property
    def encoding(self) -> Encoding | None:
        """As in ColumnPreparation."""
        return _encoding_of(self.steps)

    @property
    def names(self) -> tuple[str, ...]:
        """As in ColumnPreparation."""
        return _names(self.source, self.steps)


class Preparation(msgspec.Struct, frozen=True):
    """All feature columns of a data set, in order."""

    columns: tuple[ColumnPreparation, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the source columns."""
        return tuple(column.source for column in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the prepared columns, source by source. Categories must be settled."""
        return tuple(name for column in self.columns for name in column.names)

    @property
    def origins(self) -> tuple[str, ...]:
        """For each prepared column its source and step, for error texts: no category is in it."""
        return tuple(text for column in self.columns for text in _origins(column))


class FittedPreparation(msgspec.Struct, frozen=True):
    """A preparation as part of a model. `apply` it with `learning.columns.preparing.apply`."""

    columns: tuple[FittedColumn, ...]
    version: Literal[1] = 1

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the source columns that scoring needs."""
        return tuple(column.source for column in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the prepared columns, the order of the model's coefficients."""
        return tuple(name for column in self.columns for name in column.names)


def declare(steps_of: dict[str, tuple[Step, ...]], sources: tuple[str, ...]) -> Preparation:
    """The preparation of feature columns `sources`, of which those in `steps_of` have steps.

    Raises PreparationError for columns that are no features and for steps that do not fit together.
    """
    strangers = sorted(steps_of.keys() - set(sources))
    if strangers:
        raise PreparationError(
            f"preparation of {column_words(strangers[0])}: it is no feature column of the data set; "
            "correct the name, or add it to `columns`"
        )
    columns = tuple(_checked(name, steps_of.get(name, ())) for name in sources)
    return Preparation(columns=columns)


def category_text(value: str | int | float) -> str:
    """A category as the text it is compared by: numbers without a needless ".0"."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def step_words(step: Step | FittedStep) -> str:
    """The name of a step as in party.toml."""
    return {"filled": "impute", "clipped": "clip", "standardised": "standardise"}.get(
        str(step.__struct_config__.tag), str(step.__struct_config__.tag)
    )


def place_of(source: str, number: int, step: Step | FittedStep) -> str:
    """Column and step in words; `number` counts from 0."""
    return f"{column_words(source)}, step {number + 1} ({step_words(step)})"


def column_words(source: str) -> str:
    """A column's name for an error text: where a file has no header, it may be anything, of any length."""
    return f"column {source[:_NAME_LETTERS_MAX]!r}"


def _encoding_of(steps: tuple[Step, ...] | tuple[FittedStep, ...]) -> Encoding | None:
    return next((step for step in steps if isinstance(step, OneHot | Ordinal)), None)


def _one_hot_labels(step: OneHot) -> tuple[str, ...]:
    kept = tuple(map(category_text, step.categories))[int(step.drop_first) :]
    return (*kept, OTHER) if step.unseen == "other" else kept


def _names(source: str, steps: tuple[Step, ...] | tuple[FittedStep, ...]) -> tuple[str, ...]:
    encoding = _encoding_of(steps)
    names = tuple(f"{source}={label}" for label in _one_hot_labels(encoding)) if isinstance(encoding, OneHot) else ()
    if not isinstance(encoding, OneHot):
        names = (source,)
    return (*names, f"{source}={MISSING}") if _indicated(steps) else names


def _indicated(steps: tuple[Step, ...] | tuple[FittedStep, ...]) -> bool:
    return any(isinstance(step, Impute | Filled) and step.indicator for step in steps)


def _origins(column: ColumnPreparation) -> Iterator[str]:
    if not column.steps:
        yield column_words(column.source)
        return
    last = len(column.steps) - 1
    place = place_of(column.source, last, column.steps[last])
    encoding = column.encoding
    if isinstance(encoding, OneHot):
        place = place_of(column.source, column.steps.index(encoding), encoding)
        for number in range(int(encoding.drop_first), len(encoding.categories)):
            yield f"{place}, category {number + 1} of {len(encoding.categories)}"
        if encoding.unseen == "other":
            yield f"{place}, all other categories"
    else:
        yield place
    if _indicated(column.steps):
        yield f"{place_of(column.source, 0, column.steps[0])}, indicator of missing values"


def _checked(source: str, steps: tuple[Step, ...]) -> ColumnPreparation:
    """A column whose steps fit together, categories as text."""
    if len(steps) > STEPS_MAX:
        raise PreparationError(f"preparation of {column_words(source)}: {len(steps)} steps, {STEPS_MAX} at most")
    coded: list[Step] = []
    for number, step in enumerate(steps):
        where = place_of(source, number, step)
        if isinstance(step, OneHot | Ordinal):
            coded.append(_checked_encoding(where, number, steps, step))
            continue
        if isinstance(step, Impute):
            _check_impute(where, number, step, text=_encoding_of(steps) is not None)
        elif isinstance(step, Clip):
            _check_clip(where, step)
        coded.append(step)
    return ColumnPreparation(source=source, steps=tuple(coded))


def _checked_encoding(where: str, number: int, steps: tuple[Step, ...], step: Encoding) -> Encoding:
    before, after = steps[:number], steps[number + 1 :]
    if any(not isinstance(one, Impute) for one in before):
        raise PreparationError(f"{where}: only `impute` may come before it: it takes categories, not numbers")
    if isinstance(step, OneHot) and after:
        raise PreparationError(f"{where}: nothing may come after it: its columns are 0 and 1 already")
    if any(isinstance(one, OneHot | Ordinal) for one in after):
        raise PreparationError(f"{where}: a column is encoded once; remove one of the two encodings")
    texts = tuple(map(category_text, step.categories))
    repeated = [text for text, count in Counter(texts).items() if count > 1]
    if repeated:
        raise PreparationError(f"{where}: a category stands in `categories` twice; remove one of them")
    if len(texts) > CATEGORIES_MAX:
        raise PreparationError(f"{where}: {len(texts)} categories, {CATEGORIES_MAX} at most")
    if any(not text for text in texts):
        raise PreparationError(f'{where}: "" is no category but a missing value; add a step `impute` before it')
    if step.rows_min > 1 and (texts or step.unseen == "error"):
        raise PreparationError(
            f"{where}: rows_min is for learned categories, and what is rarer has to go somewhere: leave `categories` "
            'out and say unseen = "other" or "ignore"'
        )
    filled = next((one.constant for one in before if isinstance(one, Impute) and one.constant is not None), None)
    if texts and step.unseen == "error" and filled is not None and category_text(filled) not in texts:
        raise PreparationError(f"{where}: the constant that `impute` fills in is none of its categories; add it")
    return msgspec.structs.replace(step, categories=texts)


def _check_impute(where: str, number: int, step: Impute, *, text: bool) -> None:
    if number:
        raise PreparationError(f"{where}: `impute` comes first: the other steps need a value in every row")
    if (step.by == "constant") != (step.constant is not None):
        raise PreparationError(f'{where}: a constant is given with by = "constant", and only then')
    if text and step.by in {"median", "mean"}:
        raise PreparationError(f'{where}: categories have no {step.by}; use by = "mode" or "constant"')
    if not text and isinstance(step.constant, str):
        raise PreparationError(f"{where}: the constant of a column of numbers is a number; or add an encoding")
    if isinstance(step.constant, float) and not math.isfinite(step.constant):
        raise PreparationError(f"{where}: the constant is NaN or infinite; give a number")
    if step.constant == "":
        raise PreparationError(f"{where}: an empty constant is a missing value again; give it a name")


def _check_clip(where: str, step: Clip) -> None:
    bounds = step.low is not None or step.high is not None
    if bounds == (step.quantiles is not None):
        raise PreparationError(f"{where}: give `low`, `high` or both, or else `quantiles` = [lower, upper]")
    low, high = step.quantiles or (step.low, step.high)
    if any(bound is not None and not math.isfinite(bound) for bound in (low, high)):
        raise PreparationError(f"{where}: a bound is NaN or infinite; leave it out where there is none")
    if low is not None and high is not None and not low < high:
        raise PreparationError(f"{where}: the lower bound must be below the upper one")
