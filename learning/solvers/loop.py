"""Vector-free L-BFGS: what both parties compute alike from scalars that both have sent.

Every vector of the loop is a combination of the preconditioned gradients P g_i, so a vector is its m
coefficients, and an inner product needs only the Gram matrix `G_ij = g_i^T P g_j`, the sum of both parties'.
(L-BFGS: Nocedal 1980; by dot products alone: Chen, Wang, Zhou 2014.) All arithmetic is on Python floats in
one fixed order, with correctly rounded sums, so both parties derive bit-identical coefficients.

Release noise enters every gradient. Three rules keep the loop from following it: a curvature pair must stand
out from the noise; a step is at most 4 times as long as the longer of the last two; and the last step starts
from that average of the points whose gradients, with the noise they carry, cancel best, and is no longer than
what is left of them beyond the noise asks for.
"""

import math
from collections.abc import Sequence
from typing import Final

import msgspec

DEFAULT_TOLERANCE: Final = 7e-4
CURVATURE_MIN: Final = 1e-10
GROWTH_MAX: Final = 4.0
STEEPER: Final = 2.0
BACK_MIN: Final = 0.1
SIGNIFICANCE: Final = 1.0
NEAR: Final = 256.0
ROUNDING: Final = 2.0**-22
LINK_SHARE: Final = 0.1
LINK_TOLERANCE_MAX: Final = 0.03

Coefficients = tuple[float, ...]


class LoopError(ValueError):
    """A row of products that does not belong to this iteration."""


class LoopState(msgspec.Struct, frozen=True, kw_only=True):
    """The shared state after m iterations: the same bytes at both parties.

    `gram` has the rows of the lower triangle, `points` the coefficients of w_1..w_m (w_i over g_1..g_(i-1))
    and, last, those of the point to go to; `steps` the lengths of the steps taken. `starts`: the gradients (from 0)
    that were the first over another row set than those before. `first`: length of the gradient at zero where the loop
    starts elsewhere, from which the tolerance is judged.
    """

    tolerance: float
    noise: float = 0.0
    gram: tuple[Coefficients, ...] = ()
    points: tuple[Coefficients, ...] = ((),)
    steps: Coefficients = ()
    link_tolerance: float = LINK_TOLERANCE_MAX
    starts: tuple[int, ...] = ()
    first: float = 0.0


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from an iteration. Nothing here says more than the exchanged scalars do.

    `combination`: the next point is `sum_i combination_i P g_i`; it is to be taken even when `stop` is set
    (then it gives the target parameters). `scale`: length of the step; `gradient`: length of the gradient;
    `slope`: directional derivative along the last step where it ended; all in the metric of P, in which half
    the square of the gradient is about the loss that is left to gain.
    """

    combination: Coefficients
    scale: float
    gradient: float
    slope: float
    stop: bool
    converged: bool
    reason: str


def begin(tolerance: float = DEFAULT_TOLERANCE, first: float = 0.0) -> LoopState:
    """The state before the first iteration. `first`: length of the gradient at zero, if the loop starts elsewhere.

    Such a loop may be where another one ended: only an expansion as fine as that one's last shows how little is left.
    """
    if not first:
        return LoopState(tolerance=tolerance)
    ended = tolerance * min(1.0, 2.0 * first)
    return LoopState(tolerance=tolerance, first=first, link_tolerance=min(LINK_TOLERANCE_MAX, LINK_SHARE * ended))


def encode(state: LoopState) -> bytes:
    """The state as msgpack. What came later is left out where it says nothing: the bytes of before."""
    later = {"starts", "first"}
    said = {name: getattr(state, name) for name in state.__struct_fields__ if name not in later or getattr(state, name)}
    return msgspec.msgpack.encode(said)


def decode(data: bytes) -> LoopState:
    """Read what `encode` wrote. Raises msgspec.MsgspecError on anything else."""
    return msgspec.msgpack.decode(data, type=LoopState)


def advance(
    state: LoopState, row: Sequence[float], largest: float, *, last: bool = False, goal: float = 0.0
) -> tuple[LoopState, Step]:
    """Take in iteration m and derive the next point.

    `row`: the parties' m + 1 scalars of `history.append_gradient`, added one by one (business + provider);
    `largest`: the larger of their largest entries; `last`: whether no iteration may follow. With a `goal` the present
    row set is not the last one: when `largest` is down to it, the next gradient is over another set.
    Raises LoopError for a row of another length, and for products that no gradients have.
    """
    m = len(state.gram) + 1
    if len(row) != m + 1 or not all(math.isfinite(value) for value in row) or row[m - 1] < 0 or row[m] < 0:
        raise LoopError(f"{len(row)} products in iteration {m}: {m + 1} finite ones are expected")
    try:
        after, step = _advance(state, tuple(row), largest, last=last, goal=goal)
    except (ArithmeticError, ValueError):
        raise LoopError(f"the products of iteration {m} are of no gradients") from None
    if not all(math.isfinite(value) for value in (*step.combination, step.scale, step.gradient, step.slope)):
        raise LoopError(f"the products of iteration {m} are of no gradients")
    return after, step


def _advance(state: LoopState, row: Coefficients, largest: float, *, last: bool, goal: float) -> tuple[LoopState, Step]:
    m = len(row) - 1
    plane = Plane((*state.gram, row[:m]))
    here = padded(state.points[-1], m)
    history = [padded(point, m) for point in state.points]
    reference = min(1.0, 2.0 * (state.first or math.sqrt(plane.gram[0][0])))
    ready = largest <= max(goal, state.tolerance * reference)
    converged = ready and not goal
    stop = converged or last
    first = max(state.starts, default=0)
    # Slopes and averages of gradients over different rows say nothing.
    slope = plane.slope(history) if first < m - 1 else (0.0, 0.0)
    target = _retreat(plane, history, slope)
    if target is None:
        target = _forward(plane, history, row[m], average=stop, starts=state.starts)
    target = bounded(plane, here, target, state.steps)
    length = plane.length(minus(target, here))
    gradient = math.sqrt(plane.gram[m - 1][m - 1])
    after = LoopState(
        tolerance=state.tolerance,
        first=state.first,
        noise=row[m],
        gram=(*state.gram, row[:m]),
        points=(*state.points, target),
        steps=(*state.steps, length),
        link_tolerance=min(LINK_TOLERANCE_MAX, LINK_SHARE * gradient),
        starts=(*state.starts, m) if goal and ready else state.starts,
    )
    step = Step(
        combination=target,
        scale=length,
        gradient=gradient,
        slope=slope[1],
        stop=stop,
        converged=converged,
        reason="converged" if converged else "iterations" if last else "",
    )
    return after, step


class Plane:
    """Inner products of combinations of m preconditioned gradients."""

    def __init__(self, lower: tuple[Coefficients, ...]) -> None:
        size = len(lower)
        self.size = size
        self.gram = [[lower[max(i, j)][min(i, j)] for j in range(size)] for i in range(size)]

    def times(self, a: Coefficients) -> Coefficients:
        """G a: the inner products of `a` with every gradient."""
        return tuple(dot(row, a) for row in self.gram)

    def length(self, a: Coefficients) -> float:
        """Length in the metric of P."""
        return math.sqrt(max(0.0, dot(a, self.times(a))))

    def unit(self, i: int) -> Coefficients:
        """The i-th gradient itself."""
        return tuple(1.0 if j == i else 0.0 for j in range(self.size))

    def slope(self, points: list[Coefficients]) -> tuple[float, float]:
        """Directional derivatives along the last step, where it began and where it ended."""
        if self.size == 1:
            return 0.0, 0.0
        step = minus(points[-1], points[-2])
        products = self.times(step)
        return products[self.size - 2], products[self.size - 1]


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    """Inner product, correctly rounded."""
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def plus(a: Coefficients, factor: float, b: Coefficients) -> Coefficients:
    """`a + factor b`."""
    return tuple(x + factor * y for x, y in zip(a, b, strict=True))


def minus(a: Coefficients, b: Coefficients) -> Coefficients:
    """`a - b`."""
    return plus(a, -1.0, b)


def padded(point: Coefficients, size: int) -> Coefficients:
    """The point over `size` gradients."""
    return point + (0.0,) * (size - len(point))


def _retreat(plane: Plane, points: list[Coefficients], slope: tuple[float, float]) -> Coefficients | None:
    """After a step that overshot until it was steeper uphill than downhill before: where its slope is zero.

    That is the root of the straight line between both slopes, at least a tenth of the step.
    """
    before, after = slope
    if after <= 0.0 or after <= STEEPER * -before or before >= 0.0:
        return None
    share = max(BACK_MIN, -before / (after - before))
    step = minus(points[plane.size - 1], points[plane.size - 2])
    return plus(points[plane.size - 2], share, step)


def pairs_of(
    plane: Plane, points: list[Coefficients], noise: float, starts: tuple[int, ...] = (), lag: int = 1
) -> list[tuple[Coefficients, Coefficients, Coefficients, float]]:
    """Kept pairs, oldest first: (s, G y, y, s.y). A pair must curve upwards by more than noise can feign.

    Both gradients of a pair are over the same rows: they are `lag` apart, and none reaches over one of `starts`.
    """
    kept = []
    for k in range(plane.size - lag):
        if k + 1 in starts:
            continue
        s = minus(points[k + lag], points[k])
        y = minus(plane.unit(k + lag), plane.unit(k))
        along = plane.times(s)
        curvature = along[k + lag] - along[k]
        square = max(0.0, dot(s, along))
        change = plane.times(y)
        outstanding = curvature > max(CURVATURE_MIN * square, SIGNIFICANCE * math.sqrt(2.0 * noise * square))
        if outstanding and dot(y, change) > 0.0:
            kept.append((s, change, y, curvature))
    return kept


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else 0.5 * (ordered[middle - 1] + ordered[middle])


def _forward(
    plane: Plane, points: list[Coefficients], noise: float, *, average: bool, starts: tuple[int, ...] = ()
) -> Coefficients:
    """The quasi-Newton step from the present point or, with `average`, from the best average of points."""
    m = plane.size
    point, gradient = points[m - 1], plane.unit(m - 1)
    if average and m > 1 and noise > 0.0:
        shares = calmest(plane, noise, max(starts, default=0))
        gradient = shares
        point = (0.0,) * m
        for share, other in zip(shares, points, strict=True):
            point = plus(point, share, other)
    pairs = pairs_of(plane, points, noise, starts)
    # Shrunk by what of the averaged gradient must be expected to be noise (James, Stein 1961).
    trust = _trust(plane, gradient, noise) if average else 1.0
    return minus(point, quasi_newton(plane, tuple(trust * value for value in gradient), pairs))


def scale_of(pairs: list[tuple[Coefficients, Coefficients, Coefficients, float]]) -> float:
    """How much longer than P the inverse Hessian is where no pair says anything."""
    if not pairs:
        return 1.0
    scales = [curvature / dot(y, along) for _, along, y, curvature in pairs]
    return max(1.0, min(scales[-1], 2.0 * _median(scales)))


def quasi_newton(
    plane: Plane, gradient: Coefficients, pairs: list[tuple[Coefficients, Coefficients, Coefficients, float]]
) -> Coefficients:
    """The inverse Hessian that `pairs` make, times `gradient`: the two loops of L-BFGS on coefficients."""
    direction, shares_back = gradient, []
    for s, _, y, curvature in reversed(pairs):
        share = dot(plane.times(s), direction) / curvature
        shares_back.append(share)
        direction = plus(direction, -share, y)
    scale = scale_of(pairs)
    direction = tuple(scale * value for value in direction)
    for (s, along, _, curvature), share in zip(pairs, reversed(shares_back), strict=True):
        direction = plus(direction, share - dot(along, direction) / curvature, s)
    return direction


def _trust(plane: Plane, shares: Coefficients, noise: float) -> float:
    """The share of a combination of gradients that its noise does not explain, in [0, 1]."""
    square = plane.length(shares) ** 2
    explained = noise * dot(shares, shares)
    return max(0.0, 1.0 - explained / square) if square > 0.0 else 0.0


def calmest(plane: Plane, noise: float, first: int = 0) -> Coefficients:
    """Shares a_i with sum 1 that minimise `|sum_i a_i g_i|^2 + noise sum_i a_i^2`, of gradients from `first` on.

    Minimal residual extrapolation (Anderson 1965, Pulay 1980), regularised by what the noise is known to be. Gradients
    before `first` have no share.
    """
    squares = [plane.gram[i][i] for i in range(plane.size)]
    near = [i for i in range(first, plane.size) if squares[i] <= NEAR * (squares[-1] + noise)]
    # The Gram matrix is known to 24 bits: less than that is no guide.
    ridge = noise + ROUNDING * max(squares[i] for i in near)
    rows = [[plane.gram[i][j] + (ridge if i == j else 0.0) for j in near] + [1.0] for i in near]
    everywhere = [0.0] * plane.size
    for i, share in zip(near, shares_of(rows), strict=True):
        everywhere[i] = share
    return tuple(everywhere)


def shares_of(rows: list[list[float]]) -> Coefficients:
    """The solution of m linear equations (m, m + 1), symmetric and positive, scaled to the sum 1."""
    m = len(rows)
    for i in range(m):
        for j in range(i + 1, m):
            factor = rows[j][i] / rows[i][i]
            rows[j] = [b - factor * a for a, b in zip(rows[i], rows[j], strict=True)]
    shares = [0.0] * m
    for i in reversed(range(m)):
        shares[i] = (rows[i][m] - dot(rows[i][i + 1 : m], shares[i + 1 :])) / rows[i][i]
    total = math.fsum(shares)
    return tuple(share / total for share in shares)


def bounded(plane: Plane, here: Coefficients, target: Coefficients, steps: Coefficients) -> Coefficients:
    """The target, or the point on the way to it where the step is as long as it may be."""
    if not steps:
        return target
    step = minus(target, here)
    length, most = plane.length(step), GROWTH_MAX * max(steps[-2:])
    return target if length <= most or length == 0.0 else plus(here, most / length, step)
