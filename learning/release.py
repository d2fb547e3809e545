"""What a party may release to a partner about one row set (docs/protocol.md, section 5).

A job of m iterations releases to a receiver with d columns m gradients of d entries and, for each, a row of
the Gram matrix: i + 1 scalars in iteration i.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

ROWS_PER_ENTRY: Final = 16
ROWS_MIN: Final = 1000
ROWS_PER_COLUMN: Final = 20
LABEL_SUPPORT_MIN: Final = 50
COMBINATIONS_MAX: Final = 20_000
NOTHING: Final = 1e-9
SAME_WEIGHT: Final = 1e-6
"""Relative difference up to which two weights of a row are the same."""


class ReleaseRefused(ValueError):
    """A job whose releases its owner does not allow; `code` is the reason code."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class FormerRelease:
    """A former job with the same partner on overlapping rows."""

    job: str
    entries: int
    differing_rows: int


def min_rows(own_columns: int, partner_columns: int) -> int:
    """Rows that a job needs: 20 for every column of both parties, at least 1000."""
    return max(ROWS_MIN, ROWS_PER_COLUMN * (own_columns + partner_columns))


@dataclass(frozen=True, slots=True)
class Tariff:
    """What an iteration releases at most where it is not a gradient of all columns and a whole row of the Gram matrix.

    `drawn`: columns of the receiver whose gradient it gets. `row`: entries of the row, the noise's included. 0: all.
    In a cross-validation `fits`, each with two gradients of the receiver and `fit_row` further numbers, and `revisions`
    that have a whole row of the Gram matrix and no gradient.
    `classes`: models that every iteration is about, each with its gradient, its row and its largest entry.
    """

    drawn: int = 0
    row: int = 0
    fits: int = 0
    fit_row: int = 0
    revisions: int = 0
    classes: int = 1


WHOLE: Final = Tariff()


def entries_released(iterations: int, receiver_columns: int, tariff: Tariff = WHOLE) -> int:
    """Numbers that a receiver with so many columns gets in so many iterations."""
    columns = min(receiver_columns, tariff.drawn or receiver_columns)
    vectors = iterations + tariff.revisions
    rows = vectors * (vectors + 3) // 2 + tariff.fits * (2 * receiver_columns + tariff.fit_row)
    if tariff.row:
        rows = sum(min(iteration + 1, tariff.row) for iteration in range(1, iterations + 1))
    if tariff.classes > 1:
        return tariff.classes * (iterations * (columns + 1) + rows)
    return iterations * columns + rows


def inference_entries(receiver_columns: int, sender_columns: int) -> int:
    """Numbers that the inference stage of a job tells a receiver: its block of every turn, and the sender's summary.

    One turn at the target parameters and one for each column of both; the Gram matrix of the sender's block, its
    gradient, and two numbers more (`learning.inference.curvature.Summary`).
    """
    turns = 1 + receiver_columns + sender_columns
    return turns * receiver_columns + sender_columns * (sender_columns + 1) // 2 + sender_columns + 2


def entries_allowed(rows: int) -> int:
    """Numbers that one partner may get about one row set, over all jobs."""
    return rows // ROWS_PER_ENTRY


def iterations_allowed(
    *,
    rows: int,
    own_columns: int,
    partner_columns: int,
    max_iterations: int,
    small_sample: bool,
    former: Sequence[FormerRelease] = (),
    row_sets: NDArray[np.bool_] | None = None,
    reserved: int = 0,
    tariff: Tariff = WHOLE,
) -> int:
    """Iterations that this party allows the partner, at most `max_iterations`; 0 when nothing is left.

    `reserved`: entries that the job will release besides those of its iterations.

    `row_sets`: which rows (n, jobs) were in which job with the partner, this one and all former ones. Raises
    ReleaseRefused: `rows_too_few`, or `rows_too_close` when a former row set differs by some rows but fewer than
    `min_rows`, or when sums and differences of several row sets leave so few (gradients added and subtracted
    alike would be about those rows). Jobs that both parties marked `small_sample` are exempt from all of it.
    """
    if small_sample:
        return max_iterations
    needed = min_rows(own_columns, partner_columns)
    if rows < needed:
        raise ReleaseRefused(
            "rows_too_few",
            f"{rows} aligned rows, {needed} are needed for {own_columns + partner_columns} columns: align "
            "more rows, use fewer columns, or let both parties accept the mark small_sample",
        )
    for job in former:
        if 0 < job.differing_rows < needed:
            raise ReleaseRefused(
                "rows_too_close",
                f"the aligned rows differ from those of job {job.job} in {job.differing_rows} rows: use the "
                f"same rows, or at least {needed} other ones",
            )
    alone = 0 if row_sets is None else fewest_rows(row_sets, needed)
    if alone:
        raise ReleaseRefused(
            "rows_too_close",
            f"sums and differences of the gradients of this and former jobs would be about {alone} rows alone: "
            f"use the rows of a former job, or leave out those of all former jobs, or add {needed} new ones",
        )
    left = entries_allowed(rows) - reserved - sum(job.entries for job in former)
    allowed = 0
    while allowed < max_iterations and entries_released(allowed + 1, partner_columns, tariff) <= left:
        allowed += 1
    return allowed


def fewest_rows(row_sets: NDArray[np.bool_], enough: int) -> int:
    """The fewest rows, if fewer than `enough`, that sums over row sets can be combined to be about; else 0.

    `row_sets` (n, jobs): which rows are in which set. First gradients are sums over their rows of the same
    residuals, so a partner can add and subtract them; what is left is about the rows whose coefficients do not
    cancel. Rows that are in the same sets have the same coefficient. A block of `enough` such rows must cancel, so
    the combinations are those of the null space of the large blocks; the ones that leave fewest rows cancel as many
    small blocks as their number allows. Where these are too many to try, the smallest block counts.
    """
    block_of = np.zeros(len(row_sets), dtype=np.int64)
    for inside in row_sets.T:
        _, block_of = np.unique(2 * block_of + inside, return_inverse=True)
    _, firsts, sizes = np.unique(block_of, return_index=True, return_counts=True)
    blocks = row_sets[firsts]
    large = sizes >= enough
    _, weights, rotation = np.linalg.svd(blocks[large].astype(float), full_matrices=True)
    free = rotation[int((weights > NOTHING).sum()) :].T
    left = blocks[~large].astype(float) @ free
    seen = np.abs(left).max(axis=1, initial=0.0) > NOTHING
    left, sizes = left[seen], sizes[~large][seen]
    if not len(left):
        return 0
    # As many independent combinations as there are; each but one of them can be spent on a block to cancel.
    _, weights, rotation = np.linalg.svd(left, full_matrices=False)
    rank = int((weights > NOTHING).sum())
    left = left @ rotation[:rank].T
    if math.comb(len(left), rank - 1) > COMBINATIONS_MAX:
        return int(sizes.min())
    found = enough
    for chosen in itertools.combinations(range(len(left)), rank - 1):
        _, weights, rotation = np.linalg.svd(left[list(chosen)].reshape(-1, rank), full_matrices=True)
        if int((weights > NOTHING).sum()) < rank - 1:
            continue
        rest = np.abs(left @ rotation[-1]) > NOTHING
        found = min(found, int(sizes[rest].sum()))
    return found if found < enough else 0


def effective_rows(weights: NDArray[np.float64]) -> float:
    """How many equal rows vary as much as rows of these weights (n,): (sum |w|)^2 / sum w^2 (Kish 1965)."""
    square = math.fsum((weights * weights).tolist())
    return math.fsum(np.abs(weights).tolist()) ** 2 / square if square > 0.0 else 0.0


def fewest_effective_rows(one: NDArray[np.float64], other: NDArray[np.float64]) -> int:
    """The effective rows that a multiple of one gradient less the other is about; 0 if weights (n,) are proportional.

    Gradients of the same rows under two weightings: the multiples that cancel most rows are the ratio of their
    means and the median ratio, under which all rows but few cancel when all ratios but few are equal.
    """
    both = (one > 0.0) & (other > 0.0)
    ratios = [1.0]
    if both.any():
        ratios.append(float(np.median(one[both] / other[both])))
    found = []
    for ratio in ratios:
        rest = one - ratio * other
        rest = np.where(np.abs(rest) > SAME_WEIGHT * np.maximum(one, ratio * other), rest, 0.0)
        if not rest.any():
            return 0
        found.append(math.ceil(effective_rows(rest)))
    return min(found)


def check_weights(
    labels: NDArray[np.float64], weights: NDArray[np.float64], partner_columns: int, *, small_sample: bool
) -> None:
    """Refuse weights under which few rows make up a gradient: rows of weight 0 are no rows.

    The effective number of all rows must be ROWS_MIN (and ROWS_PER_COLUMN for each column of the partner), that of the
    rows whose label is not the most frequent one LABEL_SUPPORT_MIN. Raises ReleaseRefused `weights_few`. Jobs that both
    parties marked `small_sample` are exempt.
    """
    if small_sample or (weights == 1.0).all():
        return
    needed = max(ROWS_MIN, ROWS_PER_COLUMN * partner_columns)
    found, places = np.unique(labels, return_inverse=True)
    most = int(np.bincount(places, weights=weights, minlength=len(found)).argmax())
    for rows, least, what in (
        (effective_rows(weights), needed, "rows"),
        (effective_rows(weights[places != most]), LABEL_SUPPORT_MIN, "rows with rarer labels"),
    ):
        if rows < least:
            raise ReleaseRefused(
                "weights_few",
                f"the weights leave {math.floor(rows)} effective {what}, {least} are needed: make the weights more "
                "even, align more rows, or let both parties accept the mark small_sample",
            )


def check_labels(
    labels: NDArray[np.float64], partner_columns: int, *, label_unit: float, release_noise: float, small_sample: bool
) -> None:
    """Refuse labels that the partner's first gradient could tell one by one: the business's side of the rules.

    While all scores are zero the gradient of a column is a sum over labels, `sum_i x_i y_i` and what the partner
    knows, with the release noise. Where the labels hold less than what so many sums can say, they can be solved for:
    with 3 positives among 1000 rows, by trying triples. So the labels must hold more: the entropy of their values,
    row by row, against the capacity of the noisy sums (at most 1/2 log2 of one plus signal to noise for each,
    Shannon 1948); and LABEL_SUPPORT_MIN rows must differ from the most frequent label.

    `labels` (n,) in units of `label_unit`, noise in records. Raises ReleaseRefused `labels_rare`. Jobs that both
    parties marked `small_sample` are exempt.
    """
    if small_sample:
        return
    _, counts = np.unique(labels, return_counts=True)
    rows, others = len(labels), len(labels) - int(counts.max())
    entropy = math.fsum(count * math.log2(rows / count) for count in counts.tolist())
    mean = math.fsum(labels.tolist()) / rows
    square = math.fsum(((labels - mean) / label_unit * ((labels - mean) / label_unit)).tolist())
    told = partner_columns * 0.5 * math.log2(1.0 + 3.0 * square / release_noise**2)
    if others < LABEL_SUPPORT_MIN or entropy < told:
        raise ReleaseRefused(
            "labels_rare",
            f"{others} of {rows} labels differ from the most frequent one, too few for {partner_columns} columns of "
            "the partner: its first gradient could tell which rows they are; align more rows with rare labels, let "
            "the partner use fewer columns, or let both parties accept the mark small_sample",
        )
