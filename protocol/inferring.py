"""The inference stage: after the last step, the curvature of the loss along every party's directions.

A job whose contract says `inference` goes on after training. Its turns are iterations of the same messages at the
target parameters: in turn 0 the residuals themselves, then, for each direction of the business's weights and of the
provider's, residuals in whose place stands the curvature times the row's score along the direction
(`learning.inference.curvature_terms`). No step follows a turn. At the end the parties exchange what each knows of its
own block (`curvature.block`), and each finds errors of its own coefficients alone (docs/inference.md).
"""

import hashlib
from typing import Final

import msgspec

from learning import release
from messages import schemas
from protocol import closing
from protocol.effects import AnyEffect, BlobRef, Computed, Release, Send
from protocol.facts import job_arguments
from protocol.peer import PeerRound
from protocol.state import Inference, JobState, Phase, Round
from protocol.steps import Outcome, change, compute, expect, is_business, output_of, progress

SLOPE: Final = "slope"
"""Turn 0: the gradient at the target parameters, with fine link expansions."""


def wanted(state: JobState) -> bool:
    """Whether the stage is still to come."""
    return state.terms_of.inference and state.inference is None


def reserved(state: JobState) -> dict[str, object]:
    """What the release rules are told of the stage when the common rows are known; nothing in other jobs."""
    if not state.terms_of.inference:
        return {}
    return {"reserved": release.inference_entries(state.peers[0].columns, state.own_columns)}


def _columns(state: JobState) -> tuple[int, int]:
    own, partner = state.own_columns, state.peers[0].columns
    return (own, partner) if is_business(state) else (partner, own)


def owner(state: JobState) -> str:
    """Whose direction this turn is about: `business`, `provider`, or `slope` in turn 0; empty outside of the stage."""
    if state.inference is None:
        return ""
    turn = state.inference.turn
    if turn == 0:
        return SLOPE
    return "business" if turn <= _columns(state)[0] else "provider"


def own_direction(state: JobState) -> int | None:
    """The number of this party's own direction that this turn is about."""
    assert state.inference is not None
    if owner(state) != state.role:
        return None
    before = 1 if is_business(state) else 1 + _columns(state)[0]
    return state.inference.turn - before


def arguments(state: JobState) -> dict[str, object]:
    """What the tasks of link terms and shares are told in the stage; nothing in training."""
    return {"curvature": owner(state)} if state.inference is not None else {}


def along(state: JobState) -> tuple[BlobRef, ...]:
    """The scores along the own direction of this turn, for tasks that need them."""
    current = state.inference
    return () if current is None or current.along is None else (current.along,)


def start(state: JobState, combination: tuple[float, ...], reason: str) -> Outcome:
    """Training has ended: begin with the gradient at the target parameters."""
    state = change(
        state,
        stop_reason=reason,
        combination=combination,
        inference=Inference(iterations=state.iteration, turns=1 + sum(_columns(state))),
    )
    return _turn(state)


def _turn(state: JobState) -> Outcome:
    current, features = state.inference, state.features
    assert current is not None
    assert features.matrix is not None
    assert features.history is not None
    state = change(
        state,
        phase=Phase.SCORING,
        iteration=state.iteration + 1,
        round=Round(),
        peers=tuple(change(peer, round=PeerRound()) for peer in state.peers),
        inference=change(current, turn=current.turn + 1),
    )
    task = compute(
        f"curvature.score/{state.iteration}",
        "curvature.score",
        {
            "iteration": state.iteration,
            "combination": state.combination,
            "begins": current.curvature is None,
            "direction": own_direction(state),
            "job": job_arguments(state),
        },
        (features.matrix, features.history, current.curvature),
    )
    return state, (task, progress(state, "train", total=state.rows))


def scored(state: JobState, event: Computed) -> JobState:
    """The scores at the target parameters are there, and those along the own direction if it is about that."""
    current = state.inference
    assert current is not None
    scores, *others = event.blobs
    if current.curvature is None:
        current = change(current, curvature=others[0])
    elif others:
        current = change(current, along=others[0])
    return change(state, inference=current, round=change(state.round, scored=True, scores=scores))


def differentiate(state: JobState) -> Outcome:
    """Both halves of the turn's gradient are there: read it."""
    current, features = state.inference, state.features
    assert current is not None
    last = current.turn + 1 == current.turns
    task = compute(
        f"curvature.gradient/{state.iteration}",
        "curvature.gradient",
        {
            "iteration": state.iteration,
            "ciphertexts": state.peers[0].round.cross_term,
            "local": state.round.local_sums,
            "combination": state.combination,
            "direction": own_direction(state),
            "last": last,
            "job": job_arguments(state),
        },
        (features.history, current.curvature, *((features.matrix, features.label) if last else ())),
    )
    return change(state, round=change(state.round, differentiating=True)), (task,)


def differentiated(state: JobState, event: Computed) -> Outcome:
    """The turn's gradient is noted: go on, or tell the partner of the own block."""
    current, output = state.inference, output_of(event.output)
    assert current is not None
    assert current.curvature is not None
    released: tuple[AnyEffect, ...] = (Release(body=current.curvature), *(Release(body=body) for body in along(state)))
    state = change(state, inference=change(current, curvature=event.blobs[0], along=None))
    if "block" not in output:
        state, effects = _turn(state)
        return state, (*released, *effects)
    block = output["block"]
    message = schemas.CurvatureBlock(**block)
    assert state.inference is not None
    state = change(state, inference=change(state.inference, told=_digest(message)))
    state, effects = _close_when_told(state)
    return state, (*released, Send(message=message), *effects)


def _digest(message: schemas.CurvatureBlock) -> bytes:
    return hashlib.sha256(msgspec.msgpack.encode(message)).digest()


def block_received(state: JobState, message: schemas.CurvatureBlock, sender: str) -> Outcome:
    """What the partner knows of its own block."""
    current = state.inference
    expect(
        current is not None and current.turn + 1 == current.turns,
        "unexpected_message",
        f"curvature.block from {sender} before the last turn",
    )
    assert current is not None
    expect(not current.partner_block, "block_repeated", f"{sender} sent two curvature blocks")
    count = state.peer(sender).columns
    expect(
        len(message.gradient) == count and len(message.gram) == count * (count + 1) // 2,
        "block_wrong",
        f"{len(message.gram)} curvatures and {len(message.gradient)} slopes for {count} columns of {sender}",
    )
    block = msgspec.msgpack.encode(msgspec.to_builtins(message))
    state = change(state, inference=change(current, partner_block=block, partner_told=_digest(message)))
    return _close_when_told(state) if state.phase is Phase.CLOSING else (state, ())


def _close_when_told(state: JobState) -> Outcome:
    """Both blocks are known: note them in the agreement, and end as every job does."""
    current = state.inference
    assert current is not None
    state = change(state, phase=Phase.CLOSING)
    if not current.told or not current.partner_told:
        return state, (progress(state, "finish", waits_for=state.partner),)
    both = (current.told, current.partner_told) if is_business(state) else (current.partner_told, current.told)
    state = change(state, agreement=hashlib.sha256(state.agreement + b"".join(both)).digest())
    return closing.close(state)
