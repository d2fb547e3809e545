"""Anderson-accelerated proximal gradient steps: the loop of a job with an l1 penalty, from exchanged scalars alone.

The optimum is where `h = g + s` vanishes, g the gradient of the smooth loss at the weights w and s a subgradient of the
penalty there. A proximal step from w gives a next w and its s: `y = w - t P g`, `w' = prox(y)`, `s' = C (y - w') / t`.
Each party keeps w_i and P g_i; what is exchanged is the Gram matrix of `h_i^T P h_j`, whose sum over parties gives the
mixture `sum_i a_i h_i`, `sum_i a_i = 1`, that cancels best. All go on from the mixture of their `w_i - t P g_i` (Mai,
Johansson 2020: Anderson acceleration of proximal gradient methods), each with the proximal operator of its own columns.

The step length t follows from the curvature that the last step met: a step from the mixture m with residual h_m ends at
about `(I - t H P) h_m`. Safeguard: after a step that ends at a much longer residual, the plain step from the best point
so far is taken.
"""

import math
from collections.abc import Sequence
from typing import Final

from learning.solvers.loop import (
    LINK_SHARE,
    LINK_TOLERANCE_MAX,
    Coefficients,
    LoopError,
    LoopState,
    Plane,
    Step,
    calmest,
    dot,
    minus,
)

STEP_MIN: Final = 0.5
"""t at least: half a step of two blocks whose columns have everything in common does not diverge."""

STEP_START: Final = 0.75
STEP_MAX: Final = 64.0
STEP_GROWTH_MAX: Final = 4.0
GROWTH_MAX: Final = 2.0
STALLED: Final = 0.98
WINDOW: Final = 12
SPREAD_MAX: Final = 64.0
"""Sum of the sizes of a mixture's shares at most: larger ones cancel, and magnify noise and rounding."""


def advance(state: LoopState, row: Sequence[float], largest: float, *, last: bool = False) -> tuple[LoopState, Step]:
    """Take in iteration m and derive the next step: its combination is the mixture, and last the step length t.

    Arguments and errors as of `learning.solvers.loop.advance`; the products are those of h. `points` of the state
    holds the combinations so far, `steps` the lengths of h.
    """
    m = len(state.gram) + 1
    if len(row) != m + 1 or not all(math.isfinite(value) for value in row) or row[m - 1] < 0 or row[m] < 0:
        raise LoopError(f"{len(row)} products in iteration {m}: {m + 1} finite ones are expected")
    try:
        after, step = _advance(state, tuple(row), largest, last=last)
    except (ArithmeticError, ValueError):
        raise LoopError(f"the products of iteration {m} are of no residuals") from None
    if not all(math.isfinite(value) for value in (*step.combination, step.scale, step.gradient)):
        raise LoopError(f"the products of iteration {m} are of no residuals")
    return after, step


def _advance(state: LoopState, row: Coefficients, largest: float, *, last: bool) -> tuple[LoopState, Step]:
    m = len(row) - 1
    plane = Plane((*state.gram, row[:m]))
    lengths = (*state.steps, math.sqrt(plane.gram[m - 1][m - 1]))
    converged = largest <= state.tolerance * min(1.0, 2.0 * (state.first or lengths[0]))
    mixture = (*_mixture(plane, state.points, lengths, row[m]), _step_length(plane, state.points, lengths))
    after = LoopState(
        tolerance=state.tolerance,
        first=state.first,
        noise=row[m],
        gram=(*state.gram, row[:m]),
        points=(*state.points, mixture),
        steps=lengths,
        link_tolerance=min(LINK_TOLERANCE_MAX, LINK_SHARE * lengths[-1]),
    )
    step = Step(
        combination=mixture,
        scale=lengths[-1],
        gradient=lengths[-1],
        slope=0.0,
        stop=converged or last,
        converged=converged,
        reason="converged" if converged else "iterations" if last else "",
    )
    return after, step


def _step_length(plane: Plane, points: tuple[Coefficients, ...], lengths: Coefficients) -> float:
    """t of the next step, from the curvature that the last one met (Barzilai, Borwein 1988, the shorter length)."""
    m = plane.size
    if m == 1:
        return STEP_START
    *shares, before = points[-1]
    mixed = (*shares, *(0.0 for _ in range(m - len(shares))))
    change = minus(mixed, plane.unit(m - 1))
    along, square = dot(plane.times(mixed), change), plane.length(change) ** 2
    # Half as long after a step that went wrong.
    aim = before * along / square if along > 0.0 and square > 0.0 else before
    if lengths[-1] > GROWTH_MAX * min(lengths):
        aim = min(aim, 0.5 * before)
    return max(STEP_MIN, min(aim, STEP_GROWTH_MAX * before, STEP_MAX))


def _mixture(plane: Plane, points: tuple[Coefficients, ...], lengths: Coefficients, noise: float) -> Coefficients:
    m = plane.size
    best = min(range(m), key=lambda i: lengths[i])
    wrong = lengths[-1] > GROWTH_MAX * lengths[best] + math.sqrt(noise)
    if wrong and points[-1][:-1] != plane.unit(best)[: m - 1]:
        return plane.unit(best)
    # Mixtures that get nowhere: the plain step always leads on, and tells something new.
    if wrong or (m > 1 and lengths[-1] > STALLED * lengths[-2] + math.sqrt(noise)):
        return plane.unit(m - 1)
    shares = calmest(plane, noise, first=max(0, m - WINDOW))
    if math.fsum(abs(share) for share in shares) > SPREAD_MAX:
        return plane.unit(m - 1)
    return shares
