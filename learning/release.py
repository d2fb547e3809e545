"""What a party may release to a partner about one row set (docs/protocol.md, section 5).

A job of m iterations releases to a receiver with d columns m gradients of d entries and, for each, a row of
the Gram matrix: i + 1 scalars in iteration i.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

ROWS_PER_ENTRY: Final = 16
ROWS_MIN: Final = 1000
ROWS_PER_COLUMN: Final = 20


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
    shared_rows: int
    differing_rows: int


def min_rows(own_columns: int, partner_columns: int) -> int:
    """Rows that a job needs: 20 for every column of both parties, at least 1000."""
    return max(ROWS_MIN, ROWS_PER_COLUMN * (own_columns + partner_columns))


def entries_released(iterations: int, receiver_columns: int) -> int:
    """Numbers that a receiver with so many columns gets in so many iterations."""
    return iterations * receiver_columns + iterations * (iterations + 3) // 2


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
) -> int:
    """Iterations that this party allows the partner, at most `max_iterations`; 0 when nothing is left.

    Raises ReleaseRefused: `rows_too_few`, or `rows_too_close` when a former row set differs by some rows but
    fewer than `min_rows` (the difference of two gradients would be about those rows). Jobs that both parties
    marked `small_sample` are exempt from all of it.
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
    left = entries_allowed(rows) - sum(job.entries for job in former)
    allowed = 0
    while allowed < max_iterations and entries_released(allowed + 1, partner_columns) <= left:
        allowed += 1
    return allowed
