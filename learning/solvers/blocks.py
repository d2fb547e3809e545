"""`solver = "block"`: an iteration updates only the feature codes that are drawn for it, by block Newton.

The codes are dealt into blocks once. `cyclic` takes the blocks in turn; `random` deals codes and turns from a seed;
`greedy` takes the block whose preconditioned gradient was longest when it was last seen, times the iterations since
(Gauss-Southwell by what is known: the lengths are those that `step.products` shows anyhow, so no party learns of
another's columns more than with any other draw).

A party steps by the inverse of its curvature bound on its own drawn columns. Sweeps over all blocks are a fixed-point
map; with `cyclic` and `random` its iterates are mixed so that the residuals cancel best (Anderson 1965), which needs
the inner products of a block's gradients of the last sweeps and nothing else. Where steps overshoot, they are halved.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, Literal

import msgspec

from learning.solvers import loop
from learning.solvers.loop import Coefficients

Draw = Literal["cyclic", "random", "greedy"]

MEMORY: Final = 8
"""Sweeps that are mixed."""
RIDGE: Final = 1e-10
CLOSER: Final = 0.25
"""A block's own gradient is small soon after its step: it must be down to this share of the tolerance."""
OVERSHOT: Final = 4.0
"""A sweep whose gradients are this many times the best one's squared length has overshot."""


class Blocks(msgspec.Struct, frozen=True, kw_only=True):
    """The shared state after `count` iterations.

    `deal`: the codes of each block in its turn. `point`: coefficients of the present point over all block gradients.
    `starts`, `firsts`: where each sweep in memory began, as a point and as an iteration; `gram`: the lower triangle of
    inner products of their residuals, `growing`: the row of the sweep that goes on. `seen`, `lengths`, `entries`: of
    each block's last visit the iteration, the squared length and the largest entry.
    """

    tolerance: float
    draw: Draw
    deal: tuple[tuple[int, ...], ...]
    count: int = 0
    point: Coefficients = ()
    starts: tuple[Coefficients, ...] = ((),)
    firsts: tuple[int, ...] = (0,)
    gram: tuple[Coefficients, ...] = ()
    growing: Coefficients = (0.0,)
    noise: float = 0.0
    seen: tuple[int, ...] = ()
    lengths: Coefficients = ()
    entries: Coefficients = ()
    first_length: float = 0.0
    best: float = math.inf
    pace: float = 1.0
    link_tolerance: float = loop.LINK_TOLERANCE_MAX

    @property
    def turn(self) -> int:
        """The block that the next iteration updates."""
        blocks = len(self.deal)
        if self.draw != "greedy" or self.count < blocks:
            return self.count % blocks
        return max(range(blocks), key=lambda one: self.lengths[one] * (self.count - self.seen[one]))

    @property
    def against(self) -> tuple[int, ...]:
        """Former iterations whose gradients the next one's is multiplied with."""
        if self.draw == "greedy":
            return ()
        return tuple(first + self.count % len(self.deal) for first in self.firsts[:-1])


def begin(tolerance: float, codes: int, share: float, draw: Draw, seed: bytes, parties: Sequence[int] = ()) -> Blocks:
    """The state before the first iteration: `share` of all `codes` in each block.

    `parties`: columns of each party, where rows of products are told as the sum of all. They are dealt one by one then,
    so that every block has columns of every party that has as many columns as there are blocks: the sum hides all.
    """
    order = list(range(codes))
    places = [place for place, count in enumerate(parties) for _ in range(count)] or [0] * codes
    if draw == "random":
        # Python promises this generator and its seeding for all versions, not what `shuffle` makes of it.
        chance = random.Random(int.from_bytes(seed, "little"))  # noqa: S311
        drawn = [chance.random() for _ in order]
        order.sort(key=lambda code: (places[code], drawn[code]))
    size = size_of(codes, share)
    count = -(-codes // size)
    hands = (order[first::count] if parties else order[first * size : (first + 1) * size] for first in range(count))
    return Blocks(tolerance=tolerance, draw=draw, deal=tuple(tuple(sorted(hand)) for hand in hands))


def parties_in(hand: Sequence[int], parties: Sequence[int]) -> int:
    """How many parties have columns in a block."""
    ends = list(accumulate(parties))
    return len({bisect_right(ends, code) for code in hand})


def size_of(codes: int, share: float) -> int:
    """Codes in a block."""
    return max(1, math.ceil(share * codes))


def advance(state: Blocks, row: Sequence[float], largest: float, *, last: bool = False) -> tuple[Blocks, loop.Step]:
    """Take in an iteration: `row` has the products with `against`, with itself, and the noise. Raises LoopError."""
    if len(row) != len(state.against) + 2 or not all(math.isfinite(value) for value in (*row, largest)):
        raise loop.LoopError(f"{len(row)} products in iteration {state.count + 1}: {len(state.against) + 2} expected")
    if row[-2] < 0 or row[-1] < 0:
        raise loop.LoopError(f"the products of iteration {state.count + 1} are of no gradients")
    try:
        return _advance(state, tuple(row), largest, last=last)
    except (ArithmeticError, ValueError):
        raise loop.LoopError(f"the products of iteration {state.count + 1} are of no gradients") from None


def _advance(state: Blocks, row: Coefficients, largest: float, *, last: bool) -> tuple[Blocks, loop.Step]:
    blocks, block = len(state.deal), state.turn
    first_length = state.first_length or math.sqrt(row[-2])
    unseen = len(state.lengths) <= block
    state = msgspec.structs.replace(
        state,
        count=state.count + 1,
        point=(*state.point, -state.pace),
        noise=row[-1] if state.count % blocks == 0 else state.noise + row[-1],
        first_length=first_length,
        seen=(*state.seen[:block], state.count, *state.seen[block + 1 :]),
        lengths=(*state.lengths, row[-2]) if unseen else _put(state.lengths, block, row[-2]),
        entries=(*state.entries, largest) if unseen else _put(state.entries, block, largest),
    )
    length = math.sqrt(math.fsum(state.lengths))
    state = msgspec.structs.replace(state, link_tolerance=min(loop.LINK_TOLERANCE_MAX, loop.LINK_SHARE * length))
    if state.draw != "greedy":
        square = state.pace * state.pace
        added = tuple(a + square * b for a, b in zip(state.growing, row[:-1], strict=True))
        state = msgspec.structs.replace(state, growing=added)
    size = state.pace * math.sqrt(row[-2])
    if state.count % blocks == 0:
        state = _swept(state)
    converged = len(state.entries) == blocks and max(state.entries) <= CLOSER * state.tolerance * min(
        1.0, 2.0 * first_length
    )
    step = loop.Step(
        combination=state.point,
        scale=size,
        gradient=length,
        slope=0.0,
        stop=converged or last,
        converged=converged,
        reason="converged" if converged else "iterations" if last else "",
    )
    return state, step


def _put(values: Coefficients, place: int, value: float) -> Coefficients:
    return (*values[:place], value, *values[place + 1 :])


def _swept(state: Blocks) -> Blocks:
    """Every block had its turn: mix the sweeps in memory, or take shorter steps after one that overshot."""
    length = math.fsum(state.lengths)
    overshot = length > OVERSHOT * state.best
    forgets = overshot or state.draw == "greedy"
    state = msgspec.structs.replace(
        state, best=min(state.best, length), pace=state.pace / 2.0 if overshot else state.pace
    )
    if forgets:
        return _begin_sweep(state, (), (), ())
    gram = (*state.gram, state.growing)
    shares = _cancelling(gram, state.noise)
    ends = [state.firsts[k] + len(state.deal) for k in range(len(gram))]
    mixed = [0.0] * state.count
    for share, start, first, end in zip(shares, state.starts, state.firsts, ends, strict=True):
        for i, value in enumerate(start):
            mixed[i] += share * value
        for i in range(first, end):
            mixed[i] -= share * state.pace
    state = msgspec.structs.replace(state, point=tuple(mixed))
    if len(gram) == MEMORY:
        gram = tuple(row[1:] for row in gram[1:])
        return _begin_sweep(state, state.starts[1:], state.firsts[1:], gram)
    return _begin_sweep(state, state.starts, state.firsts, gram)


def _begin_sweep(
    state: Blocks, starts: tuple[Coefficients, ...], firsts: tuple[int, ...], gram: tuple[Coefficients, ...]
) -> Blocks:
    return msgspec.structs.replace(
        state,
        starts=(*starts, state.point),
        firsts=(*firsts, state.count),
        gram=gram,
        growing=(0.0,) * (len(firsts) + 1),
    )


def _cancelling(lower: tuple[Coefficients, ...], noise: float) -> Coefficients:
    """Shares a_i with sum 1 of the residuals whose combination is shortest, noise included."""
    m = len(lower)
    full = [[lower[max(i, j)][min(i, j)] for j in range(m)] for i in range(m)]
    ridge = noise + RIDGE * math.fsum(full[i][i] for i in range(m))
    if ridge == 0.0:
        return (0.0,) * (m - 1) + (1.0,)
    rows = [[full[i][j] + (ridge if i == j else 0.0) for j in range(m)] + [1.0] for i in range(m)]
    return loop.shares_of(rows)
