"""The provider: has features only, evaluates the link terms on them, holds the other share of the residuals."""

from typing import Any

from messages import schemas
from protocol import aligning, consenting, dividing, inferring, iterating, opening
from protocol.contract_rules import decode_contract
from protocol.effects import AnyEffect, ApproveDecided, BlobRef, BulkReceived, Compute, Computed, Consumed, Send
from protocol.facts import after_in_chain, before_in_chain, holds_share, job_arguments, rows_of_chunks
from protocol.samples import rows_now, sample_arguments
from protocol.state import JobState, Phase
from protocol.steps import (
    Outcome,
    change,
    chunk_of,
    compute,
    expect,
    expect_chunk,
    output_of,
    progress,
    put,
    send_in_order,
    sender_of,
    with_peer,
)


def proposed(state: JobState, message: schemas.JobPropose, sender: str) -> Outcome:
    """A business proposes a job: ask the policy, and take a snapshot of the data set it names."""
    contract, peer = decode_contract(message.contract), state.peer(sender)
    opening.check_proposed(state, peer, contract, message.contract)
    state = change(state, phase=Phase.ADMITTING, contract=message.contract)
    state = with_peer(state, change(peer, rows=contract.business_rows, columns=contract.business_columns + 1))
    task = compute("admit", "admit", {"contract": message.contract})
    return state, (task, progress(state, "admit"))


def admitted(state: JobState, event: Computed) -> Outcome:
    """Policy and data set have spoken: accept, decline, or ask the steward."""
    return consenting.judged(state, event, _accept)


def approved(state: JobState, event: ApproveDecided) -> Outcome:
    """The steward has said yes."""
    del event
    return consenting.approved(state, _accept)


def _accept(state: JobState, output: dict[str, Any], blobs: tuple[BlobRef, ...]) -> Outcome:
    accept = opening.acceptance(state, output)
    state = change(state, snapshot=blobs[0], own_rows=output["rows"], own_columns=output["columns"])
    state, seed = dividing.begin_provider(state, output)
    state, effects = aligning.start(state)
    return state, (accept, *seed, *effects)


def agreed(state: JobState, message: schemas.JobAgreed, sender: str) -> Outcome:
    """All providers have accepted: what each brings is known, and they may speak to each other."""
    contract = state.terms_of
    expect(
        state.several and sender in ("", state.partner) and not state.agreed,
        "unexpected_message",
        f"job.agreed from {sender}: it is said once, by the business of a job with several providers",
    )
    columns = opening.columns_agreed(state, contract, message)
    for name, count in columns.items():
        expect(
            count <= contract.columns_max and (count >= 3 or "few_columns" in contract.marks),
            "few_columns" if count < 3 else "columns",
            f"{name} brings {count} columns, which the contract forbids",
        )
    for peer in state.peers[1:]:
        state = with_peer(state, change(peer, accepted=True, columns=columns[peer.name]))
    state = change(state, agreed=True)
    return state, dividing.all_told(state)


def scored(state: JobState, event: Computed) -> Outcome:
    """Own scores are there: announce their range and wait for link terms."""
    state, effects = iterating.took_step(state, event)
    state, more = _announce(state, event)
    return state, (*effects, *more)


def curvature_scored(state: JobState, event: Computed) -> Outcome:
    """Own scores of a turn of the inference stage."""
    return _announce(inferring.scored(state, event), event)


def _announce(state: JobState, event: Computed) -> Outcome:
    output = output_of(event.output)
    state = change(
        state,
        phase=Phase.LINKING,
        round=change(state.round, bound=output["bound"], spread=output["spread"]),
    )
    send = Send(message=schemas.ScoreRange(iteration=state.iteration, bound=output["bound"], spread=output["spread"]))
    waiting = before_in_chain(state).name
    return state, (send, progress(state, "train", total=rows_now(state), waits_for=waiting))


def terms_received(state: JobState, event: BulkReceived) -> Outcome:
    """A chunk of link terms, from the business or the provider before: evaluate it, or turn it for the next."""
    current, chunk, sender = state.round, event.chunk, sender_of(state, event)
    chunks = current.chunks if current.received else event.chunks  # the first chunk says how many there are
    expect_chunk(event, sender, "terms_sequence", due=current.received, chunks=chunks)
    rows_per_chunk = rows_of_chunks(state, event.chunks)
    expect(
        rows_per_chunk > 0,
        "terms_sequence",
        f"{sender.name} cuts {rows_now(state)} rows into {event.chunks} chunks, which the contract does not allow",
    )
    first = chunk * rows_per_chunk
    rows = min(rows_per_chunk, rows_now(state) - first)
    task = _evaluation(state, event, first, rows)
    current = change(
        current,
        rows_per_chunk=rows_per_chunk,
        chunks=event.chunks,
        received=chunk + 1,
        in_work=put(current.in_work, chunk, event.body),
    )
    return change(state, round=current), (task,)


def _evaluation(state: JobState, event: BulkReceived, first: int, rows: int) -> Compute:
    """The task of a chunk: the last provider masks the residuals and raises features, the others turn the terms."""
    current, after = state.round, after_in_chain(state)
    assert current.scores is not None
    arguments = {
        "iteration": state.iteration,
        "chunk": event.chunk,
        "chunks": event.chunks,
        "first_row": first,
        "rows": rows,
        "bound": current.bound,
        "from": before_in_chain(state).name,
        # The terms are under the business's key, whoever hands them on.
        "job": job_arguments(state),
        **inferring.arguments(state),
        **sample_arguments(state),
    }
    place = f"{state.iteration}/{event.chunk}"
    if not holds_share(state):
        inputs = (event.body, current.scores)
        return compute(f"link.rotate/{place}", "link.rotate", arguments, inputs, sends_bulk=True, partner=after.name)
    assert state.features.matrix is not None
    others, blobs = iterating.cross_inputs(state, first, rows)
    return compute(
        f"link.evaluate/{place}",
        "link.evaluate",
        {**arguments, **others},
        (event.body, current.scores, state.features.matrix, *inferring.along(state), *blobs),
        sends_bulk=True,
        partner=after.name,
    )


def terms_rotated(state: JobState, event: Computed) -> Outcome:
    """A chunk of link terms for the next provider; after the last one only cross terms are waited for."""
    state, effects = _leave(state, event, "link.terms")
    current = change(state.round, evaluated=state.round.evaluated + 1)
    return _close_when_done(change(state, round=current), effects)


def terms_evaluated(state: JobState, event: Computed) -> Outcome:
    """A chunk of masked residuals to send, and its part of the cross terms and of the own gradient."""
    state, effects = _leave(state, event, "residual.share")
    return _close_when_done(iterating.accumulate(state, output_of(event.output)), effects)


def _leave(state: JobState, event: Computed, kind: str) -> Outcome:
    """A chunk goes on along the chain; the one that it was made of is used up."""
    chunk, output = chunk_of(event.task), output_of(event.output)
    current, before, after = state.round, before_in_chain(state), after_in_chain(state)
    body = current.in_work[chunk]
    assert body is not None
    queue, sends = send_in_order(kind, current.queue, chunk, current.chunks, event.blobs[0], after.name)
    expect(
        current.terms in (-1, output["terms"]),
        "terms_sequence",
        f"{before.name} changed the number of terms within iteration {state.iteration}",
    )
    current = change(current, queue=queue, in_work=put(current.in_work, chunk, None), terms=output["terms"])
    return change(state, round=current), (*sends, Consumed(body=body, sender=before.name))


def _close_when_done(state: JobState, effects: tuple[AnyEffect, ...]) -> Outcome:
    current = state.round
    if current.evaluated == current.chunks:
        state, more = iterating.close_cross(state)
        return state, (*effects, *more)
    done = min(rows_now(state), current.evaluated * current.rows_per_chunk)
    return state, (*effects, progress(state, "train", done=done, total=rows_now(state)))
