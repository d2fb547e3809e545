"""One party's side of the inference stage: how the joint gradient changes along every direction of the weights.

At the target parameters w* the parties evaluate, one by one, products `H v` of the joint curvature
`H = X^T D X / n + lambda I` with directions v that have entries in one party's block only. D is the curvature of
the loss in the score, `expected_curvature`. A party gets its own block of every product: `H_qq v` from its own
directions, `H_qp v` from the other's. Its covariance is the inverse of the Schur complement of the other's block,

    cov_q = (H_qq - H_qp H_pp^-1 H_pq)^-1 / n,

and that is the same whatever basis p describes its block in. So p's directions are its whitened columns turned by
a random rotation of its own (`begin`), and it tells only its Gram matrix in that basis, `V H_pp V^T`.

Along the way the joint gradient at w* is evaluated once more, with link expansions as fine as standard errors
need. With both Gram matrices and both rotated gradients each party takes its block of one Newton step: the estimate
that the standard errors belong to (a one-step estimator: van der Vaart, Asymptotic Statistics, 1998, 5.7).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from learning.arithmetic.factor import bounded_cholesky, solve_lower, solve_upper
from learning.arithmetic.reductions import rounded
from learning.columns.quantise import STEPS
from learning.links.family import VALUE_BITS, Family
from learning.solvers.history import HistoryError, LocalHistory, scores

Vector = NDArray[np.float64]

ENTROPY_PER_ENTRY: Final = 12
"""Uniform numbers whose sum stands for a normal one: 12 have variance 1 when each has 1/12."""

PIVOT_MIN: Final = 1e-7
"""Of what the other columns leave of one, relative: less is not told from nothing."""

LIFT: Final = 4.0
STABLE: Final = 1e-3
"""What hangs on raised pivots changes by more than this, relative, when they are raised LIFT times as high."""


@dataclass(frozen=True, slots=True)
class Curvature:
    """Arrays over d own columns, in units of the gradient and the weights of `LocalHistory`.

    `directions` (d, d): row j is v_j, whose largest score over all rows is 1 in size. `gradient` (d,) at the
    target parameters, penalty included; empty before it is known. `responses` (m, d): own block of `H v` for the
    m directions so far, the business's first. `deviations` (d,): standard deviation of the release noise in every
    entry of gradient and responses. `unexplained`: see `Summary`.
    """

    directions: Vector
    gradient: Vector
    responses: Vector
    deviations: Vector
    unexplained: float = 0.0


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a party tells of its block, in the basis of its rotated directions.

    `gram`: lower triangle of `V H_qq V^T` by rows; `gradient`: `V g_q`; `noise`: root of the summed variances that
    release noise puts on `V e`; `unexplained`: own part of the mean deviance of a model with a dispersion, see
    `unexplained_part`.
    """

    gram: tuple[float, ...]
    gradient: tuple[float, ...]
    noise: float
    unexplained: float = 0.0


@dataclass(frozen=True, slots=True)
class Block:
    """Own block of the joint estimate: `change` of the weights by the Newton step, `covariance` (d, d) of them.

    For a dispersion of 1. `covariance_noise` (d,): standard deviation that release noise puts on each variance
    (infinite where other columns determine one), `change_noise` (d,): on each weight. `decrement`: length of the joint
    Newton step in standard errors, `sqrt(n g^T H^-1 g)`.
    """

    change: Vector
    covariance: Vector
    covariance_noise: Vector
    change_noise: Vector
    decrement: float


def entropy_needed(columns: int) -> int:
    """Uniform integers that `begin` takes."""
    return columns * columns * ENTROPY_PER_ENTRY


def begin(history: LocalHistory, values: NDArray[np.int16], entropy: Sequence[int], release_noise: float) -> Curvature:
    """The stage's beginning at one party: its directions, from `entropy_needed` uniform integers in [0, 2^32).

    `values` (n, d) are the quantised rows.
    """
    columns = len(history.scales)
    basis = []
    for row in _rotation(entropy, columns):
        direction = solve_upper(history.factor, row)
        size = float(np.abs(_along(history, direction, values)).max())
        basis.append(direction / size)
    return Curvature(
        directions=np.array(basis).reshape(columns, columns),
        gradient=np.zeros(0),
        responses=np.zeros((0, columns)),
        deviations=history.scales * (history.residual_unit * STEPS * release_noise / (len(values) * math.sqrt(3.0))),
    )


def _rotation(entropy: Sequence[int], size: int) -> list[Vector]:
    """Orthonormal rows, made of sums of uniform numbers by Gram-Schmidt, twice."""
    uniform = np.array(entropy, dtype=np.float64).reshape(size, size, ENTROPY_PER_ENTRY) / 2.0**32
    done: list[Vector] = []
    for row in uniform.sum(axis=2) - ENTROPY_PER_ENTRY / 2:
        rest = row
        for _ in range(2):
            for other in done:
                rest = rest - _dot(other, rest) * other
        done.append(rest / math.sqrt(_dot(rest, rest)))
    return done


def along(curvature: Curvature, history: LocalHistory, direction: int, values: NDArray[np.int16]) -> Vector:
    """Scores (n,) of the rows along own direction `direction`, within [-1, 1]."""
    return np.clip(_along(history, curvature.directions[direction], values), -1.0, 1.0)


def _along(history: LocalHistory, direction: Vector, values: NDArray[np.int16]) -> Vector:
    return scores(replace(history, weights=direction, base=0.0), values)


def append(
    curvature: Curvature,
    history: LocalHistory,
    total: Sequence[int],
    rows: int,
    f_u: int,
    value_bits: int = VALUE_BITS,
    *,
    direction: int | None,
) -> Curvature:
    """Take in a gradient of the stage: first that at the target parameters, then one for every direction.

    `total` are the d exact sums as for `history.append_gradient`; `direction`: own direction of this iteration, None
    for the other's. Raises HistoryError for another number of sums.
    """
    columns = len(history.scales)
    if len(total) != columns:
        raise HistoryError(f"{len(total)} sums for {columns} columns")
    unit = rows * (1 << f_u) * ((1 << value_bits) - 1)
    mean = np.array([value / unit for value in total]) * history.scales * history.residual_unit
    penalties = np.full(columns, history.l2)
    if history.intercept:
        penalties[0] = 0.0
    if not len(curvature.gradient):
        return replace(curvature, gradient=mean + penalties * history.weights)
    if direction is not None:
        mean = mean + penalties * curvature.directions[direction]
    return replace(curvature, responses=np.vstack([curvature.responses, mean]))


def _split(curvature: Curvature, *, business: bool) -> tuple[Vector, Vector]:
    """(own, cross): responses to own directions (d, d) and to the other's (e, d)."""
    columns = len(curvature.directions)
    if business:
        return curvature.responses[:columns], curvature.responses[columns:]
    return curvature.responses[-columns:], curvature.responses[:-columns]


def _gram(curvature: Curvature, own: Vector) -> Vector:
    """`V H_qq V^T`, symmetric."""
    product = _times(own, curvature.directions.T)
    return (product + product.T) / 2.0


def summarise(curvature: Curvature, *, business: bool) -> Summary:
    """What to tell when all directions are done; numbers of 24 significant bits."""
    gram = _gram(curvature, _split(curvature, business=business)[0])
    spread = curvature.directions * curvature.deviations[None, :]
    return Summary(
        gram=tuple(rounded(float(gram[i, j])) for i in range(len(gram)) for j in range(i + 1)),
        gradient=tuple(rounded(_dot(row, curvature.gradient)) for row in curvature.directions),
        noise=rounded(math.sqrt(math.fsum((spread * spread).ravel().tolist()))),
        unexplained=rounded(curvature.unexplained),
    )


def unexplained_part(
    curvature: Curvature,
    history: LocalHistory,
    family: Family,
    own_scores: Vector,
    labels: Vector | None = None,
) -> float:
    """A party's part of what dispersion is estimated from: the mean deviance of a model that has a dispersion.

    `own_scores` (n,) at the target parameters, the business's with what rows begin with; `labels` (n,) at the business,
    for a linear model less what rows begin with. All of it is known to the party already:

    - linear, in units of `label_unit`: from the gradient at weights 0, `g(0) = -X^T y / n`, and the normal equations,
      `|y - X w|^2 / n = y^T y / n + sum_q (g_q(0) . w_q - lambda |w_q|^2)`.
    - gamma: `2 mean(z - log y + y / mu - 1)`, where the mean of `1 - y / mu` is the intercept's entry of the gradient.
    - tweedie: `2 mean(y^(2-p) / ((1-p)(2-p)) - y mu^(1-p) / (1-p) + mu^(2-p) / (2-p))`, where the mean of `mu^(2-p)` is
      the intercept's curvature, and the gradient's entry is its difference from that of `y mu^(1-p)`; p > 1.
    """
    if family.task == "linear":
        first = _times(history.factor, history.whitened[0][:, None])[:, 0]
        penalties = np.full(len(first), history.l2)
        if history.intercept:
            penalties[0] = 0.0
        square = 0.0 if labels is None else _mean((labels / history.label_unit) ** 2)
        return square + _dot(first, history.weights) - _dot(penalties * history.weights, history.weights)
    if family.task == "gamma":
        own = _mean(own_scores)
        return 2.0 * (own if labels is None else own - _mean(np.log(labels)) - float(curvature.gradient[0]))
    if family.task == "tweedie" and labels is not None:
        p, level = family.variance_power, _intercept_curvature(curvature, history)
        slope = level - float(curvature.gradient[0])
        full = _mean(labels ** (2.0 - p)) / ((1.0 - p) * (2.0 - p))
        return 2.0 * (full - slope / (1.0 - p) + level / (2.0 - p))
    return 0.0


def _mean(values: Vector) -> float:
    return math.fsum(values.tolist()) / len(values)


def _intercept_curvature(curvature: Curvature, history: LocalHistory) -> float:
    """`H_00`, the mean of D, at the business: by the metric in which its directions are orthogonal."""
    metric = _times(history.factor, history.factor.T)
    own, _ = _split(curvature, business=True)
    total = []
    for direction, response in zip(curvature.directions, own, strict=True):
        bent = np.array([_dot(row, direction) for row in metric])
        total.append(float(bent[0]) / _dot(direction, bent) * float(response[0]))
    return math.fsum(total)


def solve(curvature: Curvature, other: Summary, rows: int, *, business: bool) -> Block:
    """Own block of Newton step and covariance, from own responses and what the other party told.

    Raises HistoryError when the other told numbers of another size.
    """
    own, cross = _split(curvature, business=business)
    size = len(other.gradient)
    if len(cross) != size or len(other.gram) != size * (size + 1) // 2:
        raise HistoryError(f"{len(other.gram)} curvatures and {size} slopes for {len(cross)} directions")
    if not all(math.isfinite(value) for value in (*other.gram, *other.gradient, other.noise)):
        raise HistoryError("curvatures that are not finite")
    theirs = np.zeros((size, size))
    theirs[np.tril_indices(size)] = other.gram
    theirs = np.tril(theirs) + np.tril(theirs, -1).T
    if (np.diag(theirs) <= 0.0).any():
        raise HistoryError("a direction without curvature")
    directions = curvature.directions
    mixed = _times(cross, directions.T)  # row k: V H_qp v_k
    factor = bounded_cholesky(theirs, np.diag(theirs) * PIVOT_MIN)
    half = np.array([solve_lower(factor, column) for column in mixed.T])  # (d, e): row j is L^-1 of its mixed column
    mine = _gram(curvature, own)
    schur = mine - _times(half, half.T)
    floor = np.diag(mine) * PIVOT_MIN
    lower = bounded_cholesky(schur, floor)
    slopes = np.array([_dot(row, curvature.gradient) for row in directions])
    towards = solve_lower(factor, np.array(other.gradient))
    slopes = slopes - np.array([_dot(row, towards) for row in half])
    step = _solve(lower, slopes)
    decrement = math.sqrt(max(0.0, rows * (_dot(towards, towards) + _dot(slopes, step))))
    change = -np.array([_dot(step, column) for column in directions.T])
    weights = np.array([_solve(lower, column) for column in directions.T])  # row j: q_j = S^-1 a_j
    covariance = _times(weights, directions) / rows
    mirrored = np.array([solve_upper(factor, _times(half.T, q[:, None])[:, 0]) for q in weights])  # r_j = G_p^-1 M q_j
    spread = _times(weights, directions) * curvature.deviations[None, :]
    noise = np.array([math.sqrt(_dot(row, row)) for row in spread])
    q_size = np.array([math.sqrt(_dot(row, row)) for row in weights])
    r_size = np.array([math.sqrt(_dot(row, row)) for row in mirrored])
    variances = (noise * q_size) ** 2 + 4.0 * (noise * r_size) ** 2 + (other.noise * r_size * r_size) ** 2
    # What hangs on a pivot that had to be raised changes with the height it is raised to: nothing is known of it.
    higher = bounded_cholesky(schur, floor, LIFT)
    again = np.array([_dot(_solve(higher, column), column) for column in directions.T]) / rows
    unknown = np.abs(again - np.diag(covariance)) > STABLE * np.diag(covariance)
    variances[unknown] = math.inf
    return Block(
        change=change,
        covariance=covariance,
        covariance_noise=np.sqrt(variances) / rows,
        change_noise=np.sqrt(noise**2 + (other.noise * r_size) ** 2),
        decrement=decrement,
    )


def _solve(lower: Vector, vector: Vector) -> Vector:
    """x with `lower lower^T x = vector`."""
    return solve_upper(lower, solve_lower(lower, vector))


def _dot(left: Vector, right: Vector) -> float:
    return math.fsum((left * right).tolist())


def _times(left: Vector, right: Vector) -> Vector:
    """Matrix product with correctly rounded sums: the same bits on every machine."""
    return np.array([[_dot(row, column) for column in right.T] for row in left]).reshape(len(left), right.shape[1])


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    columns: int
    unexplained: float
    arrays: tuple[bytes, ...]


_ARRAYS: Final = ("directions", "gradient", "responses", "deviations")


def encode(curvature: Curvature) -> bytes:
    """The curvature as bytes: msgpack, arrays as little-endian float64."""
    arrays = tuple(np.ascontiguousarray(getattr(curvature, name), dtype="<f8").tobytes() for name in _ARRAYS)
    return msgspec.msgpack.encode(_Stored(len(curvature.deviations), curvature.unexplained, arrays))


def decode(data: bytes) -> Curvature:
    """Read what `encode` wrote. Raises msgspec.MsgspecError on anything else."""
    stored = msgspec.msgpack.decode(data, type=_Stored)
    flat = [np.frombuffer(part, dtype="<f8").astype(np.float64) for part in stored.arrays]
    directions, gradient, responses, deviations = flat
    shape = (-1, stored.columns)
    return Curvature(
        directions=directions.reshape(shape),
        gradient=gradient,
        responses=responses.reshape(shape),
        deviations=deviations,
        unexplained=stored.unexplained,
    )
