"""Several classes, one against the rest: a loop and a local history for each, side by side in one job.

All classes share rows, features and messages; an iteration is about those whose loop has not ended. What a party says
of an iteration is one row: for each class that goes on, in their order, the scalars of `learning.solvers.history` and
then its largest entry, so that what the parties' rows add up to is the Gram rows and the sum of the largest entries. A
step's combination is one class's after the other, of all classes.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from learning.solvers import history as histories
from learning.solvers import loop, proximal_loop
from learning.solvers.history import LocalHistory
from learning.solvers.loop import Coefficients, LoopError, LoopState, Step

Vector = NDArray[np.float64]


class Classes(msgspec.Struct, frozen=True, kw_only=True):
    """`loops`: of each class; `ends`: how the loops of some ended ("" while they go on)."""

    loops: tuple[LoopState, ...]
    ends: tuple[str, ...]

    @property
    def active(self) -> tuple[int, ...]:
        """The classes that go on."""
        return tuple(place for place, end in enumerate(self.ends) if not end)

    @property
    def products(self) -> int:
        """Scalars that a party says in the next iteration."""
        return sum(len(self.loops[place].gram) + 3 for place in self.active)

    @property
    def link_tolerance(self) -> float:
        """The strictest of the classes that go on."""
        return min(self.loops[place].link_tolerance for place in self.active)


def begin(tolerance: float, count: int, first: float = 0.0) -> Classes:
    """The state before the first iteration of `count` classes. `first`: see `learning.solvers.loop.begin`, for all."""
    return Classes(loops=(loop.begin(tolerance, first),) * count, ends=("",) * count)


def advance(
    state: Classes, row: Sequence[float], *, last: bool = False, proximal: bool = False
) -> tuple[Classes, Step]:
    """Take in an iteration. Raises LoopError, as `learning.solvers.loop.advance` does.

    `proximal`: the loops are those of `learning.solvers.proximal_loop`.
    """
    if len(row) != state.products:
        raise LoopError(f"{len(row)} products of {len(state.active)} classes: {state.products} are expected")
    loops, ends, at, taken = list(state.loops), list(state.ends), 0, []
    forward = proximal_loop.advance if proximal else loop.advance
    for place in state.active:
        size = len(loops[place].gram) + 2
        loops[place], step = forward(loops[place], row[at : at + size], row[at + size], last=last)
        ends[place] = step.reason if step.stop else ""
        at += size + 1
        taken.append(step)
    after = Classes(loops=tuple(loops), ends=tuple(ends))
    over = not after.active
    converged = over and all(end == "converged" for end in ends)
    return after, Step(
        combination=tuple(value for one in loops for value in one.points[-1]),
        scale=max(step.scale for step in taken),
        gradient=max(step.gradient for step in taken),
        slope=0.0,
        stop=over,
        converged=converged,
        reason="" if not over else "converged" if converged else "iterations",
    )


def encode(local: Sequence[LocalHistory]) -> bytes:
    """The local histories of all classes as bytes."""
    return msgspec.msgpack.encode([histories.encode(one) for one in local])


def decode(data: bytes) -> list[LocalHistory]:
    """Read what `encode` wrote. Raises msgspec.MsgspecError on anything else."""
    return [histories.decode(one) for one in msgspec.msgpack.decode(data, type=list[bytes])]


def take_step(local: Sequence[LocalHistory], combination: Coefficients) -> list[LocalHistory]:
    """Every class's step. Raises HistoryError for a combination of another length."""
    # With an l1 penalty a combination has a step length at its end.
    gradients = [len(one.preconditioned) for one in local]
    sizes = [count + (one.pull is not None and count > 0) for one, count in zip(local, gradients, strict=True)]
    if len(combination) != sum(sizes):
        raise histories.HistoryError(f"{len(combination)} coefficients for {sum(sizes)} gradients of all classes")
    ends = np.cumsum(sizes).tolist()
    return [
        histories.take_step(one, combination[end - size : end])
        for one, size, end in zip(local, sizes, ends, strict=True)
    ]


def scores(local: Sequence[LocalHistory], values: NDArray[np.int16]) -> Vector:
    """Scores (n, classes)."""
    return np.column_stack([histories.scores(one, values) for one in local])


def one_against_rest(labels: Vector, active: Sequence[int]) -> Vector:
    """0/1 labels (n * classes,) of classes that are numbers (n,), row by row."""
    found: Vector = (labels[:, None] == np.array(active)[None, :]).astype(np.float64).ravel()
    return found
