"""`sample_set = "growing"`: nested row sets, each about twice the one before, the last one all rows.

Early iterations need no more rows than their own gradient can tell from chance: a mean over n rows, whitened, is known
to about `1 / sqrt(n)`. When its largest entry is down to GOAL of that, the next set begins. The loop keeps what it
learned of the curvature and never makes a pair of gradients over different rows.
"""

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from learning.solvers import loop

GOAL: Final = 2.0


class Growing(msgspec.Struct, frozen=True, kw_only=True):
    """The loop and the rows of each nested set."""

    loop: loop.LoopState
    rows: tuple[int, ...]

    @property
    def stage(self) -> int:
        """Which of the sets the next gradient is over."""
        return len(self.loop.starts)


def begin(tolerance: float, blocks: Sequence[int]) -> Growing:
    """The state before the first iteration; `blocks`: rows that each stage adds."""
    rows = tuple(sum(blocks[: stage + 1]) for stage in range(len(blocks)))
    return Growing(loop=loop.begin(tolerance), rows=rows)


def advance(state: Growing, row: Sequence[float], largest: float, *, last: bool = False) -> tuple[Growing, loop.Step]:
    """Take in an iteration, see `loop.advance`. Raises LoopError."""
    final = state.stage == len(state.rows) - 1
    goal = 0.0 if final else GOAL / math.sqrt(state.rows[state.stage])
    after, step = loop.advance(state.loop, row, largest, last=last, goal=goal)
    return msgspec.structs.replace(state, loop=after), step
