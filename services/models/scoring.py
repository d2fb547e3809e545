"""A party's part of a model applied to a file: its partial score of every row."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from learning.columns.preparing import PreparationRefused, SourceTable, apply
from learning.links import projections
from protocol.scoring_contract import ScoringContract
from services.models.store import ModelStore, ModelUnknown
from services.models.version import ModelVersion
from services.tables.cells import categories_of, numbers_of
from services.tables.files import Elsewhere, TableError, TableFile, open_table
from services.tables.snapshot import pack_identifiers
from services.tables.table import Table, choose_columns, identifiers_of

Vector = NDArray[np.float64]

SLICE_ROWS: Final = 65_536
"""Rows that are prepared at once: prepared columns of a large file would not fit into memory."""


def model_for(store: ModelStore, contract: ScoringContract, party: str) -> ModelVersion:
    """The version that a scoring contract names. Raises ModelUnknown, ModelRetired, ModelDamaged.

    A model scores for the parties that trained it and for nobody else.
    """
    version = store.usable(contract.model)
    terms = version.terms
    same = (
        version.contract_digest == contract.model_digest
        and terms.parties == contract.parties
        and version.party == party
        and terms.classes == contract.classes
    )
    if not same:
        raise ModelUnknown(f"model {contract.model} was not trained by the parties and contract that are named")
    return version


def model_unit(version: ModelVersion) -> float:
    """The step in which partial scores of a model travel."""
    return projections.unit_of(version.task, version.terms.label_bound)


@dataclass(frozen=True, slots=True, eq=False)
class ScoredRows:
    """The rows of a file with their own scores (n,), or (n * classes,) row by row: all that scoring needs of it."""

    identifiers: list[str] = field(repr=False)
    scores: Vector = field(repr=False)

    @property
    def blobs(self) -> tuple[tuple[bytes, int], tuple[bytes, int]]:
        """Identifiers and scores as bytes, each with the number of rows."""
        rows = len(self.identifiers)
        return (pack_identifiers(self.identifiers), rows), (self.scores.astype("<f8").tobytes(), rows)

    def table(self, *, scores: bool) -> Table:
        """The rows as a table for a digest: identifiers, and the scores where they are to be bound as well."""
        nothing = np.empty((len(self.identifiers), 0))
        return Table(identifiers=self.identifiers, columns=(), values=nothing, label=self.scores if scores else None)


def read_and_score(version: ModelVersion, path: Path | Elsewhere, identifier: str) -> ScoredRows:
    """The own score of every row of a file, from the model's columns, exposure and offset. Others are not looked at.

    Raises TableError naming file, column, row and remedy: a column that the model needs is not there, a value is
    missing or unknown and the model's preparation does not say what it is, a score is too large to be sent.
    """
    sources, beside = version.sources, version.beside
    file = open_table(path, texts={identifier, *version.encoded}, wanted={identifier, *sources, *beside.names})
    choose_columns(file, identifier, None, sources, beside.names)
    if not file.height:
        raise file.refusal("rows_none", "there are no data rows", "export the table again")
    scores = _scores_of(file, version)  # the columns are gone before the identifiers become a million objects
    _, offset = beside.read(file, version.task)
    if offset is not None:
        scores += offset
    try:
        projections.to_units(scores, model_unit(version))
    except projections.ProjectionError as error:
        raise TableError("score_too_large", f"{path}: {error}") from None
    return ScoredRows(identifiers_of(file, identifier), scores)


def _scores_of(file: TableFile, version: ModelVersion) -> Vector:
    """The own score of every row (n,), of several classes (n * classes,) row by row. Raises TableError."""
    scores = np.empty((file.height, len(version.targets)))
    columns: list[Vector] = []  # no second copy of all of it, as one matrix would be
    categories: list[tuple[str, ...] | None] = []
    for name in version.sources:
        texts = None
        if name in version.encoded:
            cells, texts = categories_of(file, name)
        else:
            cells = numbers_of(file, name, missing=version.preparation is not None)
        columns.append(cells)
        categories.append(texts)
    for first in range(0, len(scores), SLICE_ROWS):
        part = slice(first, first + SLICE_ROWS)
        values = np.column_stack([cells[part] for cells in columns])
        prepared = _prepared(file, version, SourceTable(version.sources, values, tuple(categories)), first)
        for place, target in enumerate(version.targets):
            scores[part, place] = target.scores(prepared)
    return scores.reshape(-1)


def _prepared(file: TableFile, version: ModelVersion, source: SourceTable, first: int) -> NDArray[np.float64]:
    """The columns that the coefficients are of. `first`: the file's row that the source begins with."""
    if version.preparation is None:
        return source.values
    try:
        return apply(version.preparation, source)
    except PreparationRefused as error:
        rows = np.array(error.rows, dtype=np.intp) + first
        said = f"{file.rows(rows)} {'have' if len(rows) > 1 else 'has'} {error.reason}" if len(rows) else error.reason
        raise TableError(error.code, f"{file.path}, {error.place}: {said}; {error.remedy}") from None
