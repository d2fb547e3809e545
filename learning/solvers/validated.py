"""k-fold cross-validation over a grid of penalties in one job: a path of fits, then those of every fold, warm-started.

1. The path: the model is fitted to all training rows for every penalty, the strongest first. From one penalty to the
   next nothing is encrypted: the gradient for the next one follows at the same weights, `g + (l' - l) w`, at each
   party (a *revision*); the curvature learned so far stays.
2. The fits: for every fold and penalty, one gradient over the rows outside of the fold, at the point that the path and
   the fold's fit to the penalty before predict, `w_kj = S_j + (w_k(j-1) - S_(j-1))`, and one quasi-Newton step with the
   pairs of the path. A fold's solution differs from the full one by little, and the prediction by less.
3. The checks: for every fit one gradient over the held-out rows. The integral of a gradient along a line is the
   difference of the loss, so a trapezoid from one penalty to the next tells what a choice of penalty needs, the
   difference in held-out deviance, and needs no score of any row: one sum for a fold and penalty.

The penalty with the lowest mean deviance is chosen; its model is the path's.
"""

import math
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from learning.solvers import loop
from learning.solvers.loop import Coefficients

Act = Literal["path", "revise", "fit", "check"]

PAIRS: Final = 5
"""Curvature pairs that a fit steps with: two composites for each."""
TURNS_PER_PENALTY_MIN: Final = 1
"""Gradients over all rows that are kept back for each penalty still to come."""


class Validated(msgspec.Struct, frozen=True, kw_only=True):
    """The shared state.

    `loop`: of the path. `turns`: gradients over all rows so far, of `turns_max`. `solutions`, `ends`: of each penalty
    of the path that is done, its point and how many gradients there were. `vectors`: gradients of all kinds so far.
    `fold`, `penalty`: where the fits are; `point`: the present point; `deviances`: of each fold begun, the held-out
    mean loss at each penalty less that at the first. `loose`: penalties whose model is not down to the tolerance.
    """

    loop: loop.LoopState
    penalties: tuple[float, ...]
    rows: tuple[int, ...]
    turns_max: int
    act: Act = "path"
    turns: int = 0
    vectors: int = 0
    solutions: tuple[Coefficients, ...] = ()
    ends: tuple[int, ...] = ()
    loose: int = 0
    fold: int = 0
    penalty: int = 0
    point: Coefficients = ()
    deviances: tuple[Coefficients, ...] = ()

    @property
    def chosen(self) -> int:
        """The place of the penalty with the lowest mean deviance over all held-out rows."""
        means = mean_deviances(self.deviances, self.rows)
        return min(range(len(means)), key=means.__getitem__)


def begin(tolerance: float, penalties: Sequence[float], rows: Sequence[int], turns_max: int) -> Validated:
    """The state before the first iteration. `penalties` decrease; `rows`: of each fold."""
    return Validated(loop=loop.begin(tolerance), penalties=tuple(penalties), rows=tuple(rows), turns_max=turns_max)


def mean_deviances(deviances: Sequence[Sequence[float]], rows: Sequence[int]) -> Coefficients:
    """For each penalty the mean over the rows of all folds."""
    return tuple(
        math.fsum(size * value for size, value in zip(rows, column, strict=True)) / sum(rows)
        for column in zip(*deviances, strict=True)
    )


def composites(state: Validated) -> tuple[Coefficients, ...]:
    """What a fit's gradient is multiplied with: s and y of every pair, over the gradients of the path."""
    return tuple(vector for s, _, y, _ in _pairs(state) for vector in (s, y))


def products(state: Validated) -> int:
    """How many scalars each party sends in the present turn."""
    if state.act == "check":
        return 1
    return len(composites(state)) + 2 if state.act == "fit" else state.vectors + 2


def _plane(state: Validated) -> loop.Plane:
    return loop.Plane(state.loop.gram[: state.ends[state.penalty]])


def _pairs(state: Validated) -> list[tuple[Coefficients, Coefficients, Coefficients, float]]:
    """The pairs of the path up to the present penalty that stand out most, oldest first."""
    plane = _plane(state)
    points = [loop.padded(point[: plane.size], plane.size) for point in state.loop.points[: plane.size]]
    pairs = loop.pairs_of(plane, points, state.loop.noise, state.loop.starts)
    least = sorted((pair[3] for pair in pairs), reverse=True)[:PAIRS]
    return [pair for pair in pairs if least and pair[3] >= least[-1]]


def advance(state: Validated, row: Sequence[float], largest: float) -> tuple[Validated, loop.Step]:
    """Take in a turn. Raises LoopError."""
    if len(row) != products(state) or not all(math.isfinite(value) for value in (*row, largest)):
        raise loop.LoopError(f"{len(row)} products in a turn of cross-validation: {products(state)} are expected")
    if state.act in ("path", "revise"):
        return _along_path(state, row, largest)
    if row[-1] < 0 and state.act == "fit":
        raise loop.LoopError("the products of a fit are of no gradients")
    try:
        after, size = (_checked(state, row[0]), 0.0) if state.act == "check" else _fitted(state, tuple(row))
    except (ArithmeticError, ValueError):
        raise loop.LoopError("the products of a fit are of no gradients") from None
    done = len(after.deviances) == len(after.rows) and len(after.deviances[-1]) == len(after.penalties)
    converged = done and not after.loose
    return after, loop.Step(
        combination=after.point if not done else _padded(after, after.solutions[after.chosen]),
        scale=size,
        gradient=0.0,
        slope=0.0,
        stop=done,
        converged=converged,
        reason="" if not done else "converged" if converged else "iterations",
    )


def _padded(state: Validated, point: Coefficients) -> Coefficients:
    return loop.padded(point, state.vectors)


def _along_path(state: Validated, row: Sequence[float], largest: float) -> tuple[Validated, loop.Step]:
    here = state.loop.points[-1]
    inner, step = loop.advance(state.loop, row, largest)
    turns = state.turns + (state.act == "path")
    behind = len(state.penalties) - 1 - state.penalty
    spent = turns >= state.turns_max - TURNS_PER_PENALTY_MIN * behind
    state = msgspec.structs.replace(
        state, loop=inner, act="path", turns=turns, vectors=state.vectors + 1, point=step.combination
    )
    if not step.stop and not spent:
        return state, step
    if not step.stop:
        state = msgspec.structs.replace(state, loose=state.loose + 1)
    state = msgspec.structs.replace(
        state, solutions=(*state.solutions, step.combination), ends=(*state.ends, state.vectors)
    )
    if behind:
        # The next penalty begins where the last gradient was taken: only there is its own known.
        waiting = msgspec.structs.replace(
            inner, points=(*inner.points[:-1], here), starts=(*inner.starts, state.vectors), steps=()
        )
        state = msgspec.structs.replace(state, loop=waiting, act="revise", penalty=state.penalty + 1, point=here)
    else:
        state = msgspec.structs.replace(state, act="fit", penalty=0, point=_padded(state, state.solutions[0]))
    return state, msgspec.structs.replace(step, combination=state.point, stop=False, converged=False, reason="")


def _fitted(state: Validated, row: Coefficients) -> tuple[Validated, float]:
    """One quasi-Newton step of a fold's fit, from products with the composites alone; and its length, about."""
    pairs = _pairs(state)
    plane = _plane(state)
    square, noise = row[-2], row[-1]
    trust = max(0.0, 1.0 - noise / square) if square > 0.0 else 0.0
    with_s, with_y = row[0:-2:2], row[1:-2:2]
    # The direction is `own * g + mixed`, mixed over the path's gradients.
    own, mixed, back = trust, (0.0,) * plane.size, []
    for (s, _, y, curvature), product in zip(reversed(pairs), reversed(with_s), strict=True):
        share = (own * product + loop.dot(plane.times(s), mixed)) / curvature
        back.append(share)
        mixed = loop.plus(mixed, -share, y)
    scale = loop.scale_of(pairs)
    own, mixed = scale * own, tuple(scale * value for value in mixed)
    for (s, along, _, curvature), share, product in zip(pairs, reversed(back), with_y, strict=True):
        mixed = loop.plus(mixed, share - (own * product + loop.dot(along, mixed)) / curvature, s)
    point = loop.minus(state.point, loop.padded(mixed, state.vectors))
    after = msgspec.structs.replace(state, act="check", vectors=state.vectors + 1, point=(*point, -own))
    return after, own * math.sqrt(max(0.0, square))


def _checked(state: Validated, difference: float) -> Validated:
    """Note a fit's held-out deviance, and go on to the next penalty or fold."""
    if state.penalty == 0:
        deviances = (*state.deviances, (0.0,))
    else:
        *before, now = state.deviances
        deviances = (*before, (*now, now[-1] + difference))
    state = msgspec.structs.replace(state, act="fit", deviances=deviances)
    if state.penalty + 1 < len(state.penalties):
        behind, ahead = (_padded(state, state.solutions[state.penalty + step]) for step in (0, 1))
        moved = loop.plus(loop.plus(state.point, 1.0, ahead), -1.0, behind)
        return msgspec.structs.replace(state, penalty=state.penalty + 1, point=moved)
    if state.fold + 1 < len(state.rows):
        return msgspec.structs.replace(state, fold=state.fold + 1, penalty=0, point=_padded(state, state.solutions[0]))
    return state
