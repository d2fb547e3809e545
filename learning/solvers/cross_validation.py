"""One party's side of a cross-validation: gradients of rows that were held out, and the same weights under other l2."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from learning.arithmetic.factor import solve_lower, solve_upper
from learning.arithmetic.reductions import rounded
from learning.links.family import VALUE_BITS
from learning.solvers.history import DEFAULT_RELEASE_NOISE, LocalHistory, Vector, figures_of, penalties_of


def data_gradient(
    history: LocalHistory,
    total: Sequence[int],
    rows: int,
    f_u: int,
    value_bits: int = VALUE_BITS,
    *,
    providers: int = 1,
) -> Vector:
    """The gradient of the mean loss alone at the present weights, (d,): `append_gradient` has the arguments."""
    unit = rows * (1 << f_u) * ((1 << value_bits) - 1) ** providers
    mean = np.array([value / unit for value in total]) * history.residual_unit
    return mean * history.scales


def with_penalty(history: LocalHistory, l2: float) -> LocalHistory:
    """The same weights and gradients under another penalty from now on; the preconditioner stays."""
    return replace(history, l2=l2)


def revise_gradient(
    history: LocalHistory, l2: float, release_noise: float = DEFAULT_RELEASE_NOISE
) -> tuple[LocalHistory, list[float], float]:
    """Append what the last gradient becomes under another penalty, at the same weights; as `append_gradient`."""
    columns = len(history.scales)
    before, after = (penalties_of(history.intercept, columns, value) for value in (history.l2, l2))
    added = solve_lower(history.factor, (after - before) * history.weights)
    whitened = history.whitened[-1] + added
    history = replace(
        history,
        l2=l2,
        whitened=np.vstack([history.whitened, whitened]),
        preconditioned=np.vstack([history.preconditioned, solve_upper(history.factor, whitened)]),
    )
    return history, *figures_of(whitened, history.whitened, history.noise * release_noise)


def held_out_difference(history: LocalHistory, gradient: Vector, before: Vector | None) -> tuple[float, Vector]:
    """This party's part of the difference of a held-out mean loss between two points, and what to keep for the next.

    `gradient` (d,): of the held-out mean loss at the present weights. `before`, of the last call: weights and gradient
    there, (2, d). The trapezoid along the line between the points, in the loss's own unit.
    """
    kept = np.vstack([history.weights, gradient])
    if before is None:
        return 0.0, kept
    along = (history.weights - before[0]) * (gradient + before[1])
    return rounded(0.5 * history.label_unit**2 * math.fsum(along.tolist())), kept
