"""Rows that jobs have in common: hashes of rows, the sets that they are divided into, and their weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning import release

Rows = NDArray[np.void]
Sets = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class JobRows:
    """What the ledger has of a job: sorted row hashes, which of them are in which of its row sets, entries granted or
    released; weights of the rows, if they have any."""

    job: str
    rows: Rows
    entries: int
    sets: Sets
    weights: NDArray[np.float64] | None


def weights_of(record: Any) -> NDArray[np.float64] | None:
    """The weights in a job's file; None for a job without."""
    return np.array(record["weights"]) if "weights" in record else None


def _differing(rows: Rows, weights: NDArray[np.float64] | None, record: JobRows, shared: int) -> int:
    """Rows in which a former job differs: effective ones where either has weights."""
    if weights is None and record.weights is None:
        return len(record.rows) + len(rows) - 2 * shared
    everyone = np.unique(np.concatenate([rows, record.rows]))
    found = []
    for of_rows, of_weights in ((rows, weights), (record.rows, record.weights)):
        column = np.zeros(len(everyone))
        column[np.searchsorted(everyone, of_rows)] = 1.0 if of_weights is None else of_weights
        found.append(column)
    return release.fewest_effective_rows(found[0], found[1])


def overlaps(rows: Rows, weights: NDArray[np.float64] | None, former: Sequence[JobRows]) -> list[release.FormerRelease]:
    """Former jobs that share rows with a job of `rows`, as the release rules judge them."""
    found = []
    for record in former:
        shared = int(np.isin(record.rows, rows).sum())
        if shared:
            found.append(
                release.FormerRelease(
                    job=record.job,
                    entries=record.entries,
                    differing_rows=_differing(rows, weights, record, shared),
                )
            )
    return found


def sets_of(record: Any) -> Sets:
    """The row sets in a job's file; a job that divided no rows has none there but all of them."""
    found: Sets = record["sets"] if "sets" in record else np.ones((len(record["rows"]), 1), dtype=bool)
    return found


def row_sets(rows: Rows, sets: Sets, former: Sequence[JobRows]) -> Sets:
    """Which rows of any job are in which row set of which job, this one's first: (n, sets)."""
    jobs = [(rows, sets), *((record.rows, record.sets) for record in former)]
    everyone = np.unique(np.concatenate([one for one, _ in jobs]))
    found = []
    for one, of_one in jobs:
        column = np.zeros((len(everyone), of_one.shape[1]), dtype=bool)
        column[np.searchsorted(everyone, one)] = of_one
        found.append(column)
    return np.hstack(found)
