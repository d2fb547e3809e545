"""A party's part of a model applied to a file: its partial score of every row."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from learning import projections
from learning.preparing import PreparationRefused, SourceTable, apply
from protocol.scoring_contract import ScoringContract
from services.models.store import ModelStore, ModelUnknown
from services.models.version import ModelVersion
from services.table_cells import categories_of, numbers_of
from services.table_files import TableError, TableFile, open_table
from services.tables import Table, choose_columns, identifiers_of

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
    )
    if not same:
        raise ModelUnknown(f"model {contract.model} was not trained by the parties and contract that are named")
    return version


def model_unit(version: ModelVersion) -> float:
    """The step in which partial scores of a model travel."""
    return projections.unit_of(version.task, version.terms.label_bound)


def read_and_score(version: ModelVersion, path: Path, identifier: str) -> tuple[Table, Vector]:
    """The model's columns of a file and the own score (n,) of every row. Other columns are not looked at.

    Raises TableError naming file, column, row and remedy: a column that the model needs is not there, a value is
    missing or unknown and the model's preparation does not say what it is, a score is too large to be sent.
    """
    file = open_table(path)
    sources = version.sources
    choose_columns(file, identifier, None, sources)
    if not file.frame.height:
        raise file.refusal("rows_none", "there are no data rows", "export the table again")
    identifiers = identifiers_of(file, identifier)
    values = np.empty((file.frame.height, len(sources)), dtype=np.float64)
    categories: list[tuple[str, ...] | None] = []
    for place, name in enumerate(sources):
        texts = None
        if name in version.encoded:
            values[:, place], texts = categories_of(file, name)
        else:
            values[:, place] = numbers_of(file, name, missing=version.preparation is not None)
        categories.append(texts)
    table = Table(identifiers=identifiers, columns=sources, values=values, categories=tuple(categories))
    scores = np.empty(len(values))
    for first in range(0, len(values), SLICE_ROWS):
        part = slice(first, first + SLICE_ROWS)
        prepared = _prepared(file, version, SourceTable(sources, values[part], table.categories), first)
        scores[part] = version.targets[0].scores(prepared)
    try:
        projections.to_units(scores, model_unit(version))
    except projections.ProjectionError as error:
        raise TableError("score_too_large", f"{path}: {error}") from None
    return table, scores


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
