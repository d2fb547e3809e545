"""Least squares of the logistic function on characters of the provider's score (docs/protocol.md, section 4).

The residual of a row as a function of the provider's score s in [-b, b] is expanded on
`1, cos(w_k s), sin(w_k s)` with `w_k = pi k / (T b)`, k = 1..K. The fit is weighted where the scores are: by
a normal density of their announced spread plus a small floor, on Chebyshev nodes. A row's coefficients come
from elementwise and correctly summed operations alone, so they do not depend on other rows or on the machine.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

DENSITY_FLOOR = 1e-3
NODES_MIN = 64
NODES_MAX = 512
STRETCHES = (1.0, 1.125, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
HARMONICS_MAX = 48
ERROR_MAX = 0.5  # anywhere in the interval: keeps |r| below the residual bound 2 with room for rounding
PROBES = 121  # business scores at which an expansion is judged
PROBE_REACH = 10.0
DEGENERATE = 1e-9


def exponential(x: Vector) -> Vector:
    """exp(x) to a few units in the last place, |x| clipped to 700.

    Made of additions, products and roundings, which IEEE 754 fixes: the same bits on every processor, while
    those of a library's exponential depend on its vector unit.
    """
    clipped = np.clip(x, -700.0, 700.0)
    power = np.rint(clipped * 1.4426950408889634)
    rest = (clipped - power * 0.693147180369123816490) - power * 1.90821492927058770002e-10
    result = np.full_like(rest, 1.0 / math.factorial(13))
    for order in range(12, -1, -1):
        result = result * rest + 1.0 / math.factorial(order)
    scaled: Vector = np.ldexp(result, power.astype(np.int32))
    return scaled


def logistic(x: Vector) -> Vector:
    """1 / (1 + exp(-x)), for any x."""
    small = exponential(-np.abs(x))
    result: Vector = np.where(x >= 0, 1.0, small) / (1.0 + small)
    return result


@dataclass(frozen=True)
class Projection:
    """The linear map from values at m nodes to 2K + 1 coefficients: constant, cos 1, sin 1, cos 2, ..."""

    nodes: tuple[float, ...]
    rows: tuple[tuple[float, ...], ...]


@functools.lru_cache(maxsize=256)
def projection(harmonics: int, stretch: float, bound: float, spread: float) -> Projection:
    """The weighted least-squares fit of K = `harmonics` on [-bound, bound], of period 2 `stretch` `bound`."""
    nodes, root_weight = _nodes(bound, spread)
    basis, upper = _orthonormal(harmonics, stretch, bound, nodes, root_weight)
    count = 2 * harmonics + 1
    rows = [q * root_weight for q in basis]
    for i in reversed(range(count)):
        for k in range(i + 1, count):
            rows[i] = rows[i] - upper[i][k] * rows[k]
        rows[i] = rows[i] / upper[i][i]
    return Projection(nodes=tuple(nodes.tolist()), rows=tuple(tuple(row.tolist()) for row in rows))


def _nodes(bound: float, spread: float) -> tuple[Vector, Vector]:
    """Chebyshev nodes of the interval and the root of their weights, which sum to 1."""
    count = min(NODES_MAX, max(NODES_MIN, 4 * math.ceil(bound)))
    angles = [math.pi * (j + 0.5) / count for j in range(count)]
    nodes = np.array([bound * math.cos(angle) for angle in angles])
    density = exponential(-0.5 * (nodes / max(spread, bound / 64)) ** 2) + DENSITY_FLOOR
    weight = density * np.array([math.sin(angle) for angle in angles])
    return nodes, np.sqrt(weight / math.fsum(weight.tolist()))


def _basis(harmonics: int, stretch: float, bound: float, nodes: Vector) -> list[Vector]:
    vectors = [np.ones_like(nodes)]
    for k in range(1, harmonics + 1):
        angles = [math.pi * k / (stretch * bound) * node for node in nodes.tolist()]
        vectors.append(np.array([math.cos(angle) for angle in angles]))
        vectors.append(np.array([math.sin(angle) for angle in angles]))
    return vectors


def _dot(a: Vector, b: Vector) -> float:
    return math.fsum((a * b).tolist())


def _orthonormal(
    harmonics: int, stretch: float, bound: float, nodes: Vector, root_weight: Vector
) -> tuple[list[Vector], list[dict[int, float]]]:
    """Modified Gram-Schmidt, twice, of the weighted basis: orthonormal vectors, upper factor by rows."""
    done: list[Vector] = []
    upper: list[dict[int, float]] = []
    for k, vector in enumerate(_basis(harmonics, stretch, bound, nodes)):
        rest = vector * root_weight
        upper.append({})
        for _ in range(2):
            for i, q in enumerate(done):
                part = _dot(q, rest)
                upper[i][k] = upper[i].get(k, 0.0) + part
                rest = rest - part * q
        # A vector that the others span gets a coefficient too small to matter instead of a division by zero.
        size = max(math.sqrt(_dot(rest, rest)), DEGENERATE)
        upper[k][k] = size
        done.append(rest / size)
    return done, upper


@functools.lru_cache(maxsize=64)
def smallest(bound: float, spread: float, tolerance: float) -> tuple[int, float]:
    """(K, T): fewest harmonics whose error for the worst business score is within `tolerance`.

    The error is the root of the weighted mean square over the interval. When HARMONICS_MAX do not reach the
    tolerance, the best fit of that many.
    """
    nodes, root_weight = _nodes(bound, spread)
    reach = PROBE_REACH + bound
    probes = np.array([reach * (2 * i / (PROBES - 1) - 1) for i in range(PROBES)])
    target = logistic(probes[:, None] + nodes[None, :])
    fits = {stretch: _Fit(stretch, bound, nodes, root_weight, target) for stretch in STRETCHES}
    best = (1, STRETCHES[0])
    for harmonics in range(1, HARMONICS_MAX + 1):
        errors = {stretch: fit.extend(harmonics) for stretch, fit in fits.items()}
        stretch = min(STRETCHES, key=lambda candidate: errors[candidate])
        best = (harmonics, stretch)
        if errors[stretch] <= tolerance:
            break
    return best


class _Fit:
    """One stretch, extended harmonic by harmonic; knows what is left of the target after each."""

    def __init__(self, stretch: float, bound: float, nodes: Vector, root_weight: Vector, target: Vector) -> None:
        self._frequency = math.pi / (stretch * bound)
        self._nodes = nodes
        self._root = root_weight
        self._basis: list[Vector] = []
        self._left = target * root_weight[None, :]
        self._condition = 1.0
        self._deflate(np.ones_like(nodes))

    def _deflate(self, vector: Vector) -> None:
        rest = vector * self._root
        for _ in range(2):
            for q in self._basis:
                rest = rest - _dot(q, rest) * q
        size = math.sqrt(_dot(rest, rest))
        self._condition = min(self._condition, size)
        if size < 100 * DEGENERATE:
            return
        q = rest / size
        self._basis.append(q)
        parts = (self._left * q[None, :]).sum(axis=1)
        self._left = self._left - parts[:, None] * q[None, :]

    def extend(self, harmonics: int) -> float:
        """The error with one harmonic more; infinite when the fit is not fit for use."""
        for wave in (np.cos, np.sin):
            self._deflate(wave(harmonics * self._frequency * self._nodes))
        error = math.sqrt(float((self._left * self._left).sum(axis=1).max()))
        if float(np.abs(self._left / self._root[None, :]).max()) > ERROR_MAX:
            error += 1.0
        # Nearly dependent characters cancel in large coefficients, which the 15 bits of their values cannot.
        if self._condition < 1e-4:
            error += 2.0
        return error
