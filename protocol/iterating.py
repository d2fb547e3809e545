"""What an iteration has in common at both parties: scores, cross terms, gradient, step, and the end."""

import hashlib
from typing import Any

import msgspec

from learning import loop, proximal_loop
from messages import schemas
from protocol import inferring
from protocol.effects import AnyEffect, BlobRef, Computed, Finish, Release, RemoteProtocolError, Send
from protocol.facts import budget_of, job_arguments, partner_chunks
from protocol.state import IterationFacts, JobState, Phase, Round
from protocol.steps import Outcome, change, compute, expect, fail, is_business, output_of, progress


def start(state: JobState) -> Outcome:
    """Begin iteration 1: all weights are zero."""
    if state.iterations_max < 1:
        return fail(
            state,
            "release_cap",
            f"the release caps leave no iteration for {state.rows} aligned rows: use more rows, fewer columns, "
            "or let both parties accept the mark small_sample",
        )
    loop_state = loop.begin(state.terms_of.tolerance)
    state = change(state, loop=loop.encode(loop_state))
    return score(state, ())


def score(state: JobState, combination: tuple[float, ...]) -> Outcome:
    """Begin an iteration: take the step, compute own scores."""
    features = state.features
    assert features.matrix is not None
    assert features.history is not None
    state = change(state, phase=Phase.SCORING, iteration=state.iteration + 1, round=Round())
    task = compute(
        f"score/{state.iteration}",
        "score",
        {
            "iteration": state.iteration,
            "combination": combination,
            "role": state.role,
            "job": job_arguments(state),
        },
        (features.matrix, features.history),
    )
    return state, (task, progress(state, "train", total=state.rows))


def took_step(state: JobState, event: Computed) -> Outcome:
    """The weights of this iteration and their scores are stored."""
    old = state.features.history
    assert old is not None
    state = change(
        state,
        features=change(state.features, history=event.blobs[0]),
        round=change(state.round, scored=True, scores=event.blobs[1]),
    )
    return state, (Release(body=old),)


def feature_blobs(state: JobState, first_row: int, rows: int) -> tuple[tuple[BlobRef, ...], int]:
    """The partner's encrypted feature chunks that cover the rows, and the first row of the first of them."""
    per_chunk, _ = partner_chunks(state)
    first, last = first_row // per_chunk, (first_row + rows - 1) // per_chunk
    blobs = tuple(ref for ref in state.features.encrypted[first : last + 1] if ref is not None)
    return blobs, first * per_chunk


def accumulate(state: JobState, output: dict[str, Any]) -> JobState:
    """Add a chunk's part to the cross term and to the own local sums.

    The products modulo N^2 commute, so the bytes do not depend on the order in which tasks end.
    """
    current = state.round
    modulus = int.from_bytes(state.features.partner_modulus, "little")
    product = multiply(current.cross_product, output["cross"], modulus * modulus, state.terms_of.key_bits // 4)
    sums = [int.from_bytes(part, "little", signed=True) for part in output["local"]]
    if current.local_sums:
        before = (int.from_bytes(part, "little", signed=True) for part in current.local_sums)
        sums = [a + b for a, b in zip(before, sums, strict=True)]
    size = (budget_of(state).share_bits + 64 + state.rows.bit_length()) // 8 + 1
    local = tuple(value.to_bytes(size, "little", signed=True) for value in sums)
    after = change(current, evaluated=current.evaluated + 1, cross_product=product, local_sums=local)
    return change(state, round=after)


def multiply(left: bytes, right: bytes, modulus: int, size: int) -> bytes:
    """Ciphertext by ciphertext, the product of two rows of ciphertexts of `size` bytes."""
    if not left:
        return right
    parts = (
        int.from_bytes(left[i : i + size], "little") * int.from_bytes(right[i : i + size], "little") % modulus
        for i in range(0, len(right), size)
    )
    return b"".join(part.to_bytes(size, "little") for part in parts)


def close_cross(state: JobState) -> Outcome:
    """All chunks are in: window and re-randomise the cross term."""
    current = state.round
    task = compute(
        f"cross.close/{state.iteration}",
        "cross.close",
        {"iteration": state.iteration, "product": current.cross_product, "job": job_arguments(state)},
    )
    dropped: tuple[AnyEffect, ...] = () if current.scores is None else (Release(body=current.scores),)
    state = change(state, phase=Phase.CROSSING, round=change(current, scores=None))
    return state, (
        *dropped,
        task,
        progress(state, "train", done=state.rows, total=state.rows, waits_for=state.partner),
    )


def cross_closed(state: JobState, event: Computed) -> Outcome:
    """The cross term for the partner is ready to leave."""
    send = Send(
        message=schemas.CrossTerm(iteration=state.iteration, ciphertexts=output_of(event.output)["ciphertexts"])
    )
    state, effects = _differentiate_when_ready(change(state, round=change(state.round, closed=True)))
    return state, (send, *effects)


def cross_received(state: JobState, message: schemas.CrossTerm) -> Outcome:
    """The partner's half of the own gradient."""
    check_iteration(state, "cross.term", message.iteration)
    expect(
        not state.round.cross_term,
        "cross_repeated",
        f"{state.partner} sent two cross terms for one iteration",
    )
    state = change(state, round=change(state.round, cross_term=message.ciphertexts))
    return _differentiate_when_ready(state) if state.phase is Phase.CROSSING else (state, ())


def check_iteration(state: JobState, kind: str, iteration: int) -> None:
    """A message of another iteration ends the job."""
    expect(
        iteration == state.iteration,
        "iteration_wrong",
        f"{kind} of iteration {iteration} from {state.partner} in iteration {state.iteration}",
    )


def _differentiate_when_ready(state: JobState) -> Outcome:
    current, features = state.round, state.features
    if not current.closed or not current.cross_term or current.differentiating:
        return state, ()
    assert features.history is not None
    if state.inference is not None:
        return inferring.differentiate(state)
    task = compute(
        f"gradient/{state.iteration}",
        "gradient",
        {
            "iteration": state.iteration,
            "ciphertexts": current.cross_term,
            "local": current.local_sums,
            "job": job_arguments(state),
        },
        (features.history,),
    )
    return change(state, round=change(current, differentiating=True)), (task,)


def differentiated(state: JobState, event: Computed) -> Outcome:
    """The own gradient is in the history: tell the partner the new row of the Gram matrix."""
    output, old = output_of(event.output), state.features.history
    assert old is not None
    products, largest = tuple(output["products"]), output["largest"]
    state = change(
        state,
        phase=Phase.STEPPING,
        features=change(state.features, history=event.blobs[0]),
        round=change(state.round, products=products, largest=largest),
    )
    send = Send(message=schemas.StepProducts(iteration=state.iteration, products=list(products), largest=largest))
    if state.round.partner_products is None:
        return state, (Release(body=old), send, progress(state, "train", waits_for=state.partner))
    state, effects = _advance(state)
    return state, (Release(body=old), send, *effects)


def products_received(state: JobState, message: schemas.StepProducts) -> Outcome:
    """The partner's row of its Gram matrix."""
    check_iteration(state, "step.products", message.iteration)
    expect(
        state.round.partner_products is None,
        "products_repeated",
        f"{state.partner} sent two rows for iteration {state.iteration}",
    )
    expect(
        len(message.products) == state.iteration + 1,
        "products_wrong",
        f"{len(message.products)} products in iteration {state.iteration} from {state.partner}",
    )
    current = change(state.round, partner_products=tuple(message.products), partner_largest=message.largest)
    state = change(state, round=current)
    return _advance(state) if state.phase is Phase.STEPPING else (state, ())


def _advance(state: JobState) -> Outcome:
    current = state.round
    assert current.partner_products is not None
    mine, theirs = (current.products, current.largest), (current.partner_products, current.partner_largest)
    business, provider = (mine, theirs) if is_business(state) else (theirs, mine)
    row = tuple(b + p for b, p in zip(business[0], provider[0], strict=True))
    largest = max(business[1], provider[1])
    last = state.iteration >= state.iterations_max
    try:
        # With a penalty that has no derivative the loop is another; the state of both is alike.
        advance = proximal_loop.advance if state.terms_of.l1 else loop.advance
        after, step = advance(loop.decode(state.loop), row, largest, last=last)
    except loop.LoopError as error:
        raise RemoteProtocolError("products_wrong", f"step.products of {state.partner}: {error}") from None
    agreement = hashlib.sha256(
        state.agreement + msgspec.msgpack.encode((state.iteration, business, provider, step.combination))
    ).digest()
    fact = IterationFacts(
        iteration=state.iteration,
        largest_business=business[1],
        largest_provider=provider[1],
        terms=current.terms,
        bound=current.bound,
        step=step.scale,
    )
    state = change(
        state,
        loop=loop.encode(after),
        agreement=agreement,
        facts=(*state.facts, fact),
        converged=step.converged,
    )
    if step.stop:
        if inferring.wanted(state):
            return inferring.start(state, step.combination, step.reason)
        return close(change(state, stop_reason=step.reason, combination=step.combination))
    return score(state, step.combination)


def close(state: JobState) -> Outcome:
    """Everything is known: take the last step, and tell the partner that this party is done."""
    state = change(state, phase=Phase.CLOSING)
    if is_business(state):
        return state, (progress(state, "finish", waits_for=state.partner),)
    return _results(state, 0.0)


def _results(state: JobState, constant: float) -> Outcome:
    facts = [msgspec.to_builtins(fact) for fact in state.facts]
    inputs = (state.snapshot, state.features.history, state.features.preparation, *inferring.results_inputs(state))
    task = compute(
        "results",
        "results",
        {
            "iterations": inferring.iterations_trained(state),
            "converged": state.converged,
            "stop_reason": state.stop_reason,
            "facts": facts,
            "combination": state.combination,
            "constant": constant,
            "job": job_arguments(state),
            **inferring.results_arguments(state),
        },
        inputs,
    )
    return state, (task, progress(state, "finish"))


def results_ready(state: JobState, event: Computed) -> Outcome:
    """The own target parameters are stored: say done. The provider's part of the intercept goes along."""
    state = change(state, results=event.blobs)
    constant = 0.0 if is_business(state) else output_of(event.output)["constant"]
    send = Send(
        message=schemas.JobDone(
            iterations=state.iteration, converged=state.converged, agreement=state.agreement, constant=constant
        )
    )
    state, effects = _finish_when_ready(state)
    return state, (send, *effects)


def done_received(state: JobState, message: schemas.JobDone) -> Outcome:
    """The partner is done; it must have derived the same shared scalars."""
    expect(not state.partner_done, "done_repeated", f"{state.partner} said job.done twice")
    expect(
        (message.iterations, message.converged, message.agreement)
        == (state.iteration, state.converged, state.agreement),
        "agreement_differs",
        f"{state.partner} derived other step coefficients: its software or its journal differs from this party's",
    )
    state = change(state, partner_done=True)
    return _results(state, message.constant) if is_business(state) else _finish_when_ready(state)


def _finish_when_ready(state: JobState) -> Outcome:
    if not state.results or not state.partner_done:
        return state, ()
    return change(state, phase=Phase.DONE), (Finish(outcome="done", results=state.results),)
