"""One party's side of the loop: its columns' curvature, its gradients, its parameters. None of it is shown.

The preconditioner is the inverse of `C = c X^T D X / n + lambda I = L L^T` over the party's own columns, with
c = 1/4 (logistic) or 1. D is what the logistic curvature is expected to be before anything is known of the
labels: a score with variance h has curvature `1/4 / sqrt(1 + pi/8 h)` on average (MacKay 1992), and a row's
score varies with the size h of its columns; so rows of outliers do not dominate C as they do not dominate the
true curvature. The diagonal of C is raised by what release noise makes unknowable, so that columns that nearly
determine each other do not get a step made of noise. C depends on own columns alone.

Gradients are kept whitened, `L^-1 g`: their inner products are those of `g^T P g`, in the units in which
release noise and tolerance are judged.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from learning.arithmetic.factor import cholesky, solve_lower, solve_upper, spread_of_solution
from learning.arithmetic.reductions import WEIGHT_BITS, rounded, weighted_gram
from learning.columns.quantise import STEPS, Quantised, steps_of
from learning.links.family import VALUE_BITS, Family
from learning.solvers.proximal import proximal_point
from learning.solvers.warm import Start

Vector = NDArray[np.float64]

NOISE_DEVIATIONS: Final = 4.0
DEFAULT_RELEASE_NOISE: Final = 1 / 32
NOISE_RIDGE: Final = 40.0


class HistoryError(ValueError):
    """A combination or gradient that does not belong to this history."""


@dataclass(frozen=True, slots=True)
class LocalHistory:
    """Arrays over d own columns and the m gradients so far.

    `scales`, `centres` (d,); `factor` L (d, d); `noise` (d,): deviation of each whitened entry under release
    noise 1; `whitened` L^-1 g and `preconditioned` P g (m, d); `weights` (d,), of centred columns and, for a
    linear model, in units of `label_unit`. `residual_unit`: what a residual of 1 stands for; `base`: a score that
    every row has before any weight (both `learning.links.family.Family`). With `l1` the loop is that of
    `learning.solvers.proximal_loop`: `pull` (d,) is C^-1 s for a subgradient s of the penalty at the weights, `places`
    (m, d) are the weights where gradients were taken, and `whitened` has L^-1 (g + s). `origin` (d,): the weights that
    the loop starts with; None: zeros.
    """

    intercept: bool
    l2: float
    label_unit: float
    scales: Vector
    centres: Vector
    factor: Vector
    noise: Vector
    whitened: Vector
    preconditioned: Vector
    weights: Vector
    residual_unit: float = 1.0
    base: float = 0.0
    l1: float = 0.0
    pull: Vector | None = None
    places: Vector | None = None
    origin: Vector | None = None


class TargetParameters(msgspec.Struct, frozen=True, kw_only=True):
    """A party's part of the model: `score = constant + sum_j coefficient_j x_j`, x on the grid of training."""

    constant: float
    coefficients: tuple[float, ...]
    centres: tuple[float, ...]
    scales: tuple[float, ...]

    def scores(self, columns: Vector) -> Vector:
        """Partial scores (n,) of raw columns (n, d), rounded to the grid as in training."""
        total = np.full(len(columns), self.constant)
        for j, (coefficient, centre, scale) in enumerate(
            zip(self.coefficients, self.centres, self.scales, strict=True)
        ):
            total = total + coefficient * (steps_of(columns[:, j], centre, scale) * scale + centre)
        return total


def begin(
    quantised: Quantised,
    *,
    family: Family,
    l2: float,
    release_noise: float = DEFAULT_RELEASE_NOISE,
    base: float = 0.0,
    l1: float = 0.0,
    start: Start | None = None,
) -> LocalHistory:
    """The history before the first iteration: weights 0, or those of `start`.

    `l2` and `l1` are the penalties of the mean loss.
    """
    rows, columns = quantised.values.shape
    weights = _curvature_weights(quantised.values, family.task)
    unit = family.curvature_bound / (rows * 2.0**WEIGHT_BITS)
    scales = quantised.scales
    curvature = weighted_gram(quantised.values, weights) * scales[:, None] * scales[None, :] * unit
    curvature[np.diag_indices(columns)] += penalties_of(quantised.intercept, columns, l2)
    curvature[np.diag_indices(columns)] *= 1.0 + NOISE_RIDGE * release_noise * family.residual_unit / rows
    factor = cholesky(curvature)
    deviations = scales * (family.residual_unit * STEPS / (rows * math.sqrt(3.0)))
    label_unit = family.label_bound if family.task == "linear" else 1.0
    origin = None
    if start is not None:
        origin = start.weights(quantised.centres, intercept=quantised.intercept, unit=label_unit, base=base)
    return LocalHistory(
        intercept=quantised.intercept,
        l2=l2,
        label_unit=label_unit,
        scales=scales,
        centres=quantised.centres,
        factor=factor,
        noise=spread_of_solution(factor, deviations),
        whitened=np.zeros((0, columns)),
        preconditioned=np.zeros((0, columns)),
        weights=np.zeros(columns) if origin is None else origin,
        origin=origin,
        residual_unit=family.residual_unit,
        base=base,
        l1=l1 / label_unit,
        pull=_first_pull(factor, origin, penalties_of(quantised.intercept, columns, l1 / label_unit)) if l1 else None,
        places=np.zeros((0, columns)) if l1 else None,
    )


def _first_pull(factor: Vector, origin: Vector | None, penalties: Vector) -> Vector:
    """C^-1 s of the l1 penalty's subgradient where the loop starts, 0 for weights that are 0."""
    if origin is None:
        return np.zeros(len(penalties))
    return solve_upper(factor, solve_lower(factor, penalties * np.sign(origin)))


def penalties_of(intercept: bool, columns: int, l2: float) -> Vector:
    """The penalty of each own column, (columns,): none of the intercept."""
    penalties = np.full(columns, l2)
    if intercept:
        penalties[0] = 0.0
    return penalties


def _curvature_weights(values: NDArray[np.int16], task: str) -> NDArray[np.int64]:
    """Expected curvature of each row over its bound, in 4096ths: (n,)."""
    rows, columns = values.shape
    one = 1 << WEIGHT_BITS
    if task != "logistic":
        return np.full(rows, one, dtype=np.int64)
    size = np.zeros(rows)
    for j in range(columns):
        square = values[:, j].astype(np.int64) ** 2
        size += square / max(1, int(square.sum()))
    variance = size * (rows / columns)
    weights: NDArray[np.int64] = np.rint(one / np.sqrt(1.0 + math.pi / 8.0 * variance)).astype(np.int64)
    return np.maximum(weights, 1)


def take_step(history: LocalHistory, combination: Sequence[float]) -> LocalHistory:
    """Set the weights to `origin + sum_i combination_i P g_i` (all of them, not a difference; none gives the origin).

    With an l1 penalty the last number is a step length t, and the weights are the proximal point of
    `sum_i combination_i (w_i - t P g_i)`, w_i where g_i was taken.
    """
    if history.pull is not None and history.places is not None:
        return _proximal_step(history, history.places, combination) if combination else history
    if len(combination) != len(history.preconditioned):
        raise HistoryError(f"{len(combination)} coefficients for {len(history.preconditioned)} gradients")
    weights = np.zeros(len(history.scales)) if history.origin is None else history.origin
    for coefficient, direction in zip(combination, history.preconditioned, strict=True):
        weights = weights + coefficient * direction
    return replace(history, weights=weights)


def _proximal_step(history: LocalHistory, places: Vector, combination: Sequence[float]) -> LocalHistory:
    *shares, step = combination
    if len(shares) != len(history.preconditioned) or not step > 0.0:
        raise HistoryError(f"{len(shares)} shares for {len(history.preconditioned)} gradients, or no step length")
    point = np.zeros(len(history.scales))
    for share, place, direction in zip(shares, places, history.preconditioned, strict=True):
        point = point + share * (place - step * direction)
    penalties = step * penalties_of(history.intercept, len(point), history.l1)
    weights = proximal_point(point, history.factor, penalties)
    return replace(history, weights=weights, pull=(point - weights) / step)


def scores(history: LocalHistory, values: NDArray[np.int16]) -> Vector:
    """Scores (n,) of quantised rows (n, d), column by column so that they do not depend on other rows."""
    total = np.full(len(values), history.base)
    for j, factor in enumerate((history.scales * history.weights).tolist()):
        total += values[:, j] * factor
    return total


def append_gradient(
    history: LocalHistory,
    total: Sequence[int],
    rows: int,
    f_u: int,
    release_noise: float = DEFAULT_RELEASE_NOISE,
    value_bits: int = VALUE_BITS,
    *,
    providers: int = 1,
    sources: int = 1,
    drawn: Sequence[int] | None = None,
    against: Sequence[int] | None = None,
    all_rows: int = 0,
    composites: Sequence[Sequence[float]] | None = None,
) -> tuple[LocalHistory, list[float], float]:
    """Add the gradient at the present weights: (history, m + 1 scalars to send, largest entry to send).

    `total` are the d exact sums of quantised column times residual in units of
    1 / (2^f_u (2^value_bits - 1)^providers), `rows` the rows of the iteration, `sources` the number of share holders
    that have each added release noise. The scalars are the new row of the party's Gram matrix, `g_i^T P g_m` for
    i = 1..m, and the expected square of the release noise in a gradient, measured alike (it depends on own columns
    only), all rounded to 24 significant bits. The largest entry is that of the whitened gradient beyond what release
    noise explains (4 standard deviations). Raises HistoryError for another number of sums.

    `drawn`: the own columns that the iteration updates; of the others the gradient is 0, whatever their sums, and the
    preconditioner is the inverse of their own block of C. `against`: the former gradients (from 0) whose products are
    wanted before the new one's with itself; all of them by default. `all_rows`: the rows that the history began with,
    where the iteration is over some of them: the noise of a mean over fewer rows is larger. `composites`: the
    combinations of former gradients, from the first on, whose products are wanted before that with itself.
    """
    columns = len(history.scales)
    if len(total) != columns:
        raise HistoryError(f"{len(total)} sums for {columns} columns")
    unit = rows * (1 << f_u) * ((1 << value_bits) - 1) ** providers
    mean = np.array([value / unit for value in total]) * history.residual_unit
    gradient = mean * history.scales + penalties_of(history.intercept, columns, history.l2) * history.weights
    if drawn is None:
        whitened = solve_lower(history.factor, gradient)
        direction, noise = solve_upper(history.factor, whitened), history.noise
    else:
        whitened, direction, noise = _of_block(history, gradient, drawn, rows)
    if history.pull is not None and history.places is not None:
        whitened = whitened + (history.factor * history.pull[:, None]).sum(axis=0)
        history = replace(history, places=np.vstack([history.places, history.weights]))
    history = replace(
        history,
        whitened=np.vstack([history.whitened, whitened]),
        preconditioned=np.vstack([history.preconditioned, direction]),
    )
    noise = noise * (release_noise * math.sqrt(sources))
    if all_rows:
        noise = noise * (all_rows / rows)
    wanted = history.whitened if against is None else history.whitened[[*against, -1]]
    if composites is not None:
        wanted = np.vstack([*(_combined(history.whitened, one) for one in composites), whitened])
    return history, *figures_of(whitened, wanted, noise)


def figures_of(whitened: Vector, wanted: Vector, noise: Vector) -> tuple[list[float], float]:
    """What is said of a whitened gradient (d,): its products with the rows of `wanted` and the expected square of its
    release noise (`noise`: deviation of each entry), and its largest entry beyond what that explains."""
    products = [math.fsum((row * whitened).tolist()) for row in wanted]
    products.append(math.fsum((noise * noise).tolist()))
    excess = np.abs(whitened) - NOISE_DEVIATIONS * noise
    largest = max(0.0, float(excess.max(initial=0.0)))
    return [rounded(product) for product in products], rounded(largest)


def _combined(vectors: Vector, shares: Sequence[float]) -> Vector:
    total = np.zeros(vectors.shape[1])
    for share, vector in zip(shares, vectors, strict=False):
        total = total + share * vector
    return total


def _of_block(
    history: LocalHistory, gradient: Vector, drawn: Sequence[int], rows: int
) -> tuple[Vector, Vector, Vector]:
    """Whitened gradient, P g and deviations under noise 1 of the drawn columns, 0 elsewhere: each (d,)."""
    whitened, direction, noise = np.zeros((3, len(gradient)))
    if drawn:
        own = np.array(drawn)
        factor = history.factor[own]
        # Rows of the factor times its columns: that part of C, summed in a fixed order.
        part = np.array([[math.fsum((a * b).tolist()) for b in factor] for a in factor])
        lower = cholesky(part)
        whitened[own] = solve_lower(lower, gradient[own])
        direction[own] = solve_upper(lower, whitened[own])
        deviations = history.scales[own] * (history.residual_unit * STEPS / (rows * math.sqrt(3.0)))
        noise[own] = spread_of_solution(lower, deviations)
    return whitened, direction, noise


def target(history: LocalHistory) -> TargetParameters:
    """The parameters for raw columns. The business's constant is its intercept.

    Centring is undone at home: a provider has a constant, too, the part of the intercept that its centres
    make.
    """
    own = slice(1, None) if history.intercept else slice(None)
    weights = history.weights * history.label_unit
    coefficients, centres = weights[own], history.centres[own]
    constant = (float(weights[0]) if history.intercept else 0.0) + history.base
    return TargetParameters(
        constant=math.fsum([constant, *(-(coefficients * centres)).tolist()]),
        coefficients=tuple(coefficients.tolist()),
        centres=tuple(centres.tolist()),
        scales=tuple(history.scales[own].tolist()),
    )


def weights(history: LocalHistory) -> Vector:
    """Coefficients for raw columns (d,); the business's intercept comes first. `target` has the constant."""
    parameters = target(history)
    first = (parameters.constant,) if history.intercept else ()
    return np.array([*first, *parameters.coefficients])


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    intercept: bool
    l2: float
    label_unit: float
    columns: int
    arrays: tuple[bytes, ...]


class _StoredInUnits(_Stored, frozen=True, array_like=True):
    """With what histories of the first kinds of jobs do not have; those keep their bytes."""

    residual_unit: float = 1.0
    base: float = 0.0
    l1: float = 0.0
    pull: bytes = b""
    places: bytes = b""
    origin: bytes = b""


_ARRAYS: Final = ("scales", "centres", "factor", "noise", "whitened", "preconditioned", "weights")


def encode(history: LocalHistory) -> bytes:
    """The history as bytes: msgpack, arrays as little-endian float64."""
    arrays = tuple(np.ascontiguousarray(getattr(history, name), dtype="<f8").tobytes() for name in _ARRAYS)
    first = (history.intercept, history.l2, history.label_unit, len(history.scales), arrays)
    parts = (history.pull, history.places, history.origin)
    own = tuple(b"" if part is None else np.ascontiguousarray(part, dtype="<f8").tobytes() for part in parts)
    later = (history.residual_unit, history.base, history.l1)
    plain = later == (1.0, 0.0, 0.0) and not any(own)
    return msgspec.msgpack.encode(_Stored(*first) if plain else _StoredInUnits(*first, *later, *own))


def decode(data: bytes) -> LocalHistory:
    """Read what `encode` wrote. Raises msgspec.MsgspecError on anything else."""
    stored = msgspec.msgpack.decode(data, type=_StoredInUnits)
    flat = [np.frombuffer(part, dtype="<f8").astype(np.float64) for part in stored.arrays]
    scales, centres, factor, noise, whitened, preconditioned, weights_ = flat
    shape = (-1, stored.columns)
    return LocalHistory(
        intercept=stored.intercept,
        l2=stored.l2,
        label_unit=stored.label_unit,
        scales=scales,
        centres=centres,
        factor=factor.reshape(shape),
        noise=noise,
        whitened=whitened.reshape(shape),
        preconditioned=preconditioned.reshape(shape),
        weights=weights_,
        residual_unit=stored.residual_unit,
        base=stored.base,
        l1=stored.l1,
        pull=np.frombuffer(stored.pull, dtype="<f8").astype(np.float64) if stored.pull else None,
        places=np.frombuffer(stored.places, dtype="<f8").astype(np.float64).reshape(shape) if stored.pull else None,
        origin=np.frombuffer(stored.origin, dtype="<f8").astype(np.float64) if stored.origin else None,
    )
