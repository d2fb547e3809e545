"""`sample_set = "fraction"`: each iteration takes its gradient over one batch of a partition fixed for the job.

The gradient that is followed is the mean of every batch's last one (incremental aggregated gradients: Blatt, Hero,
Gauchman 2007), so the steps need not vanish for the optimum to be reached. Curvature is learned from pairs of gradients
over one batch, from two visits of it. Steps decay with the rounds, since what is averaged was seen at older points.
"""

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from learning.solvers import loop
from learning.solvers.loop import Coefficients

DECAY: Final = 0.1
PAIRS_PER_BATCH: Final = 2
"""Pairs that are used, newest first, for each batch."""
NEAR: Final = 2.0
"""The aggregated gradient may be this many tolerances long where the loop over all rows compares its largest entry."""


class Fraction(msgspec.Struct, frozen=True, kw_only=True):
    """As `loop.LoopState`, over batches of `rows` rows that take turns."""

    tolerance: float
    rows: tuple[int, ...]
    gram: tuple[Coefficients, ...] = ()
    points: tuple[Coefficients, ...] = ((),)
    steps: Coefficients = ()
    link_tolerance: float = loop.LINK_TOLERANCE_MAX

    @property
    def batch(self) -> int:
        """The batch that the next gradient is over."""
        return len(self.gram) % len(self.rows)


def begin(tolerance: float, blocks: Sequence[int]) -> Fraction:
    """The state before the first iteration."""
    return Fraction(tolerance=tolerance, rows=tuple(blocks))


def advance(state: Fraction, row: Sequence[float], largest: float, *, last: bool = False) -> tuple[Fraction, loop.Step]:
    """Take in an iteration, see `loop.advance`. Raises LoopError."""
    del largest
    m, batches = len(state.gram) + 1, len(state.rows)
    if len(row) != m + 1 or not all(math.isfinite(value) for value in row) or row[m - 1] < 0 or row[m] < 0:
        raise loop.LoopError(f"{len(row)} products in iteration {m}: {m + 1} finite ones are expected")
    try:
        after, step = _advance(state, tuple(row), m, batches, last=last)
    except (ArithmeticError, ValueError):
        raise loop.LoopError(f"the products of iteration {m} are of no gradients") from None
    if not all(math.isfinite(value) for value in (*step.combination, step.scale, step.gradient)):
        raise loop.LoopError(f"the products of iteration {m} are of no gradients")
    return after, step


def _advance(state: Fraction, row: Coefficients, m: int, batches: int, *, last: bool) -> tuple[Fraction, loop.Step]:
    plane = loop.Plane((*state.gram, row[:m]))
    points = [loop.padded(point, m) for point in state.points]
    newest = range(max(0, m - batches), m)
    seen = sum(state.rows[k % batches] for k in newest)
    shares = [0.0] * m
    for k in newest:
        shares[k] = state.rows[k % batches] / seen
    gradient = tuple(shares)
    square = plane.length(gradient) ** 2
    noise = row[m] * loop.dot(gradient, gradient)
    reference = min(1.0, 2.0 * math.sqrt(plane.gram[0][0]))
    converged = m > batches and square <= (NEAR * state.tolerance * reference) ** 2 + noise
    pairs = loop.pairs_of(plane, points, row[m], lag=batches)[-PAIRS_PER_BATCH * batches :]
    step = loop.quasi_newton(plane, gradient, pairs)
    # Before every batch was seen, the step is as sure as its share of the rows.
    length = (len(newest) / batches) / (1.0 + DECAY * (m - 1) / batches)
    target = loop.plus(points[-1], -length, step)
    target = loop.bounded(plane, points[-1], target, state.steps)
    size = plane.length(loop.minus(target, points[-1]))
    after = msgspec.structs.replace(
        state,
        gram=(*state.gram, row[:m]),
        points=(*state.points, target),
        steps=(*state.steps, size),
        link_tolerance=min(loop.LINK_TOLERANCE_MAX, loop.LINK_SHARE * math.sqrt(square)),
    )
    return after, loop.Step(
        combination=target,
        scale=size,
        gradient=math.sqrt(square),
        slope=0.0,
        stop=converged or last,
        converged=converged,
        reason="converged" if converged else "iterations" if last else "",
    )
