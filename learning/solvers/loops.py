"""The loops that a contract can ask for, behind one face: what the next iteration is over, and what follows from it.

All of them are what both parties compute alike from scalars that both have sent (`learning.solvers.loop`).
"""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from learning.solvers import blocks, fraction, growing, loop, proximal_loop, validated
from learning.solvers import classes as several
from learning.solvers.blocks import Draw

Solver = Literal["lbfgs", "block"]
SampleSet = Literal["full", "fraction", "growing"]

_AnyLoop = several.Classes | loop.LoopState | growing.Growing | fraction.Fraction | blocks.Blocks | validated.Validated


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a job's loop follows from: the contract and what both parties know of rows and columns.

    `rows`: training rows of each block of the sample sets; `codes`: features of all parties; `seed`: of a random draw.
    `penalties`: of a cross-validation, whose folds `rows` are; `iterations`: gradients over all rows at most in it.
    `proximal`: there is a penalty that has no derivative (`learning.solvers.proximal_loop`). `first`: see `loop.begin`.
    `classes`: see `learning.solvers.classes`; 0 for a model of one score. `parties`: see `blocks.begin`.
    """

    solver: Solver = "lbfgs"
    sample_set: SampleSet = "full"
    tolerance: float = loop.DEFAULT_TOLERANCE
    proximal: bool = False
    penalties: tuple[float, ...] = ()
    iterations: int = 0
    rows: tuple[int, ...] = ()
    codes: int = 0
    draw: Draw = "cyclic"
    share: float = 0.25
    seed: bytes = b""
    first: float = 0.0
    classes: int = 0
    parties: tuple[int, ...] = ()


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What the next iteration is over.

    `first` to `last` (exclusive): the blocks of training rows, after the last one the first again. `codes`: the
    features that are updated, none for all of them. `against`: see `history.append_gradient`. `products`: how many
    scalars each party sends. In a cross-validation (`learning.solvers.validated`): what kind of turn it is, at which
    penalty, and the combinations of former gradients that a fit's is multiplied with instead. `classes`: those that go
    on, none for a model of one score.
    """

    first: int
    last: int
    codes: tuple[int, ...]
    against: tuple[int, ...] | None
    products: int
    link_tolerance: float
    act: validated.Act = "path"
    penalty: float | None = None
    composites: tuple[tuple[float, ...], ...] = ()
    classes: tuple[int, ...] = ()


def _kind(plan: Plan) -> type[_AnyLoop]:
    if plan.penalties:
        return validated.Validated
    if plan.classes:
        return several.Classes
    if plan.solver == "block":
        return blocks.Blocks
    kinds: Final[dict[str, type[_AnyLoop]]] = {
        "full": loop.LoopState,
        "growing": growing.Growing,
        "fraction": fraction.Fraction,
    }
    return kinds[plan.sample_set]


def begin(plan: Plan) -> bytes:
    """The state before the first iteration."""
    if plan.penalties:
        return _encode(validated.begin(plan.tolerance, plan.penalties, plan.rows, plan.iterations))
    if plan.classes:
        return _encode(several.begin(plan.tolerance, plan.classes, plan.first))
    if plan.solver == "block":
        state = blocks.begin(plan.tolerance, plan.codes, plan.share, plan.draw, plan.seed, plan.parties)
        return msgspec.msgpack.encode(state)
    if plan.sample_set == "growing":
        return _encode(growing.begin(plan.tolerance, plan.rows))
    if plan.sample_set == "fraction":
        return _encode(fraction.begin(plan.tolerance, plan.rows))
    return loop.encode(loop.begin(plan.tolerance, plan.first))


def _encode(state: _AnyLoop) -> bytes:
    return loop.encode(state) if isinstance(state, loop.LoopState) else msgspec.msgpack.encode(state)


def turn(plan: Plan, data: bytes) -> Turn:
    """What the next iteration is over."""
    state = msgspec.msgpack.decode(data, type=_kind(plan))
    parts = max(1, len(plan.rows))
    match state:
        case validated.Validated():
            return _validated_turn(state)
        case several.Classes():
            return Turn(
                first=0,
                last=parts,
                codes=(),
                against=None,
                products=state.products,
                link_tolerance=state.link_tolerance,
                classes=state.active,
            )
        case growing.Growing():
            inner = state.loop
            return _turn(0, state.stage + 1, len(inner.gram), inner.link_tolerance)
        case fraction.Fraction():
            return _turn(state.batch, state.batch + 1, len(state.gram), state.link_tolerance)
        case blocks.Blocks():
            return Turn(
                first=0,
                last=parts,
                codes=state.deal[state.turn],
                against=state.against,
                products=len(state.against) + 2,
                link_tolerance=state.link_tolerance,
            )
        case _:
            return _turn(0, parts, len(state.gram), state.link_tolerance)


def _validated_turn(state: validated.Validated) -> Turn:
    folds, fold = len(state.rows), state.fold
    first, last = {"fit": (fold + 1, fold + folds), "check": (fold, fold + 1)}.get(state.act, (0, folds))
    return Turn(
        first=first,
        last=last,
        codes=(),
        against=None,
        products=validated.products(state),
        link_tolerance=state.loop.link_tolerance,
        act=state.act,
        penalty=state.penalties[state.penalty],
        composites=validated.composites(state) if state.act == "fit" else (),
    )


def _turn(first: int, last: int, gradients: int, link_tolerance: float) -> Turn:
    return Turn(first=first, last=last, codes=(), against=None, products=gradients + 2, link_tolerance=link_tolerance)


def advance(
    plan: Plan, data: bytes, row: Sequence[float], largest: float, *, last: bool = False
) -> tuple[bytes, loop.Step]:
    """Take in an iteration: the state after it, and the step that follows. Raises LoopError; see `loop.advance`."""
    state = msgspec.msgpack.decode(data, type=_kind(plan))
    match state:
        case validated.Validated():
            fits, step = validated.advance(state, row, largest)
            return _encode(fits), step
        case several.Classes():
            all_classes, step = several.advance(state, row, last=last, proximal=plan.proximal)
            return _encode(all_classes), step
        case growing.Growing():
            after, step = growing.advance(state, row, largest, last=last)
            return _encode(after), step
        case fraction.Fraction():
            batch, step = fraction.advance(state, row, largest, last=last)
            return _encode(batch), step
        case blocks.Blocks():
            block, step = blocks.advance(state, row, largest, last=last)
            return _encode(block), step
        case _:
            forward = proximal_loop.advance if plan.proximal else loop.advance
            full, step = forward(state, row, largest, last=last)
            return _encode(full), step


def gradients(plan: Plan, data: bytes, iteration: int) -> tuple[int, ...]:
    """How many gradients the model that a job had after an iteration combines; of several classes each one's."""
    if not plan.classes:
        return (iteration,)
    state = msgspec.msgpack.decode(data, type=several.Classes)
    return tuple(min(iteration, len(one.gram)) for one in state.loops)


def validation_of(plan: Plan, data: bytes) -> dict[str, object] | None:
    """What a cross-validation found, for the results; None where there is none."""
    if not plan.penalties:
        return None
    state = msgspec.msgpack.decode(data, type=validated.Validated)
    return {
        "penalties": state.penalties,
        "rows": state.rows,
        "deviances": state.deviances,
        "means": validated.mean_deviances(state.deviances, state.rows),
        "chosen": state.penalties[state.chosen],
        "turns": state.turns,
        "loose": state.loose,
    }
