"""What an iteration is over: its rows and the feature codes that it updates, from the loop that all parties share."""

from typing import Final

from learning.solvers import blocks, loops, validated
from protocol.contract import contract_digest
from protocol.facts import all_columns, budget_of, codes_of, partner_columns
from protocol.peer import Peer
from protocol.state import JobState, Sample
from protocol.steps import change, expect


def plan_of(state: JobState) -> loops.Plan:
    """What the job's loop follows from. A random draw is seeded with the contract's digest."""
    contract = state.terms_of
    return loops.Plan(
        solver=contract.solver,
        sample_set=contract.sample_set,
        tolerance=contract.tolerance,
        proximal=bool(contract.l1),
        rows=state.parts.blocks or (state.rows,),
        codes=sum(all_columns(state).values()),
        draw=contract.draw,
        share=contract.block_share,
        seed=contract_digest(state.contract),
        first=contract.first_gradient,
        penalties=contract.penalties,
        iterations=state.iterations_max,
        classes=contract.classes,
        parties=tuple(all_columns(state).values()) if state.several else (),
    )


BLOCK_PARTIES_MIN: Final = 3
"""Parties with columns in a block, of several providers: with fewer, one would learn another's row from the sum."""


def check_blocks(state: JobState) -> None:
    """With several providers, the sum of a block's rows hides each of them. Raises RemoteProtocolError."""
    contract, parties = state.terms_of, tuple(all_columns(state).values())
    if not state.several or contract.solver != "block" or "few_columns" in contract.marks:
        return
    plan = plan_of(state)
    dealt = blocks.begin(plan.tolerance, plan.codes, plan.share, plan.draw, plan.seed, parties).deal
    expect(
        all(blocks.parties_in(hand, parties) >= BLOCK_PARTIES_MIN for hand in dealt),
        "few_columns",
        f"a block of columns is of fewer than {BLOCK_PARTIES_MIN} parties, whose products the sum of all would show: "
        f"raise block_share: no more blocks than a party has columns ({', '.join(map(str, parties))})",
    )


def turn_of(state: JobState) -> loops.Turn:
    """What the iteration that begins is over."""
    return loops.turn(plan_of(state), state.loop)


def sample_of(state: JobState) -> Sample:
    """The rows and columns of the iteration that begins, as its tasks are told."""
    turn = turn_of(state)
    parts = state.parts.blocks or (state.rows,)
    first = sum(parts[: turn.first % len(parts)])
    rows = sum(parts[block % len(parts)] for block in range(turn.first, turn.last))
    sample = Sample() if (first, rows) == (0, state.rows) else Sample(first=first, rows=rows)
    sample = change(sample, classes=turn.classes) if turn.classes else sample
    return change(sample, codes=turn.codes, against=turn.against or ()) if turn.codes else sample


def rows_now(state: JobState) -> int:
    """Rows of the iteration."""
    return state.round.sample.rows or state.rows


def drawn_of(state: JobState, party: str) -> tuple[int, ...] | None:
    """The columns of a party that the iteration updates, counted from its first; None: all."""
    codes = state.round.sample.codes
    if not codes:
        return None
    theirs = codes_of(state, party)
    return tuple(code - theirs[0] for code in codes if code in theirs)


def updates(state: JobState, party: str) -> bool:
    """Whether columns of a party are updated: else nobody owes it a cross term."""
    return drawn_of(state, party) != ()


def _groups(state: JobState, drawn: tuple[int, ...]) -> list[int]:
    size = budget_of(state).columns_per_ciphertext
    return sorted({column // size for column in drawn})


def peer_arguments(state: JobState, peer: Peer) -> dict[str, object]:
    """What tasks are told of a partner's columns that are updated, and the ciphertexts that hold them."""
    drawn = drawn_of(state, peer.name)
    own = class_arguments(state)
    return own if drawn is None else {**own, "drawn": drawn, "groups": _groups(state, drawn)}


def class_arguments(state: JobState) -> dict[str, object]:
    """What tasks are told of the classes that the iteration is about; nothing for a model of one score."""
    classes = state.round.sample.classes
    return {"classes": classes} if classes else {}


def own_arguments(state: JobState) -> dict[str, object]:
    """What the gradient's task is told of own columns that are updated, and of the iteration's rows."""
    sample, drawn = state.round.sample, drawn_of(state, state.me)
    rows = {"iteration_rows": sample.rows} if sample.rows else {}
    if state.terms_of.penalties:
        turn = turn_of(state)
        fit = {"composites": turn.composites} if turn.act == "fit" else {}
        return {**rows, "act": turn.act, "penalty": turn.penalty, **fit}
    if drawn is None:
        return {**rows, **class_arguments(state)}
    return {**rows, "drawn": drawn, "groups": _groups(state, drawn), "against": sample.against}


def sample_arguments(state: JobState) -> dict[str, object]:
    """What a chunk's task is told of the rows before those of the iteration."""
    sample = state.round.sample
    return {**({"skip": sample.first} if sample.rows else {}), **class_arguments(state)}


def tolerance_arguments(state: JobState) -> dict[str, object]:
    """What the planning of link terms is told where the loop is another than `learning.solvers.loop`."""
    plan = plan_of(state)
    if (plan.solver, plan.sample_set, plan.penalties, plan.classes) == ("lbfgs", "full", (), 0):
        return {}
    return {"link_tolerance": turn_of(state).link_tolerance}


def tariff_arguments(state: JobState) -> dict[str, object]:
    """What an iteration releases at most, for the rules of releases; nothing where it is everything."""
    contract = state.terms_of
    if contract.penalties:
        fits, revisions = contract.folds * len(contract.penalties), len(contract.penalties) - 1
        # Products with the composites, with itself, the noise; and the difference that a check tells.
        return {"tariff": {"fits": fits, "fit_row": 2 * validated.PAIRS + 3, "revisions": revisions}}
    if contract.classes:
        return {"tariff": {"classes": contract.classes}}
    if contract.solver != "block":
        return {}
    size = blocks.size_of(state.own_columns + partner_columns(state), contract.block_share)
    return {"tariff": {"drawn": size, "row": blocks.MEMORY + 1}}
