"""The provider: has features only, evaluates the link terms on them, holds the other share of the residuals."""

from messages import schemas
from protocol import aligning, dividing, inferring, iterating
from protocol.contract import contract_digest, decode_contract, job_id
from protocol.effects import AnyEffect, BulkReceived, Computed, Consumed, Finish, Send
from protocol.facts import job_arguments, rows_of_chunks
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
)


def proposed(state: JobState, message: schemas.JobPropose) -> Outcome:
    """A business proposes a job: ask the policy, and take a snapshot of the data set it names."""
    contract = decode_contract(message.contract)
    expect(
        job_id(message.contract) == state.job and (contract.business, contract.provider) == (state.partner, state.me),
        "contract_parties",
        f"the contract proposed by {state.partner} names other parties or another job than its envelope",
    )
    state = change(
        state,
        phase=Phase.ADMITTING,
        contract=message.contract,
        partner_rows=contract.business_rows,
        partner_columns=contract.business_columns + 1,
    )
    task = compute("admit", "admit", {"contract": message.contract})
    return state, (task, progress(state, "admit"))


def admitted(state: JobState, event: Computed) -> Outcome:
    """Policy and data set have spoken: accept or decline."""
    output = output_of(event.output)
    if output["reason_code"]:
        code, reason = output["reason_code"], output["reason"]
        send = Send(message=schemas.JobDecline(reason_code=code, reason=reason[:2000]))
        return (
            change(state, phase=Phase.DECLINED),
            (send, Finish(outcome="declined", reason_code=code, reason=output.get("own_reason") or reason)),
        )
    accept = Send(
        message=schemas.JobAccept(
            contract_digest=contract_digest(state.contract),
            data_digest=output["data_digest"],
            schema_digest=output["schema_digest"],
            rows=output["rows"],
            columns=output["columns"],
        )
    )
    state = change(state, snapshot=event.blobs[0], own_rows=output["rows"], own_columns=output["columns"])
    state, seed = dividing.begin_provider(state, output)
    state, effects = aligning.start(state)
    return state, (accept, *seed, *effects)


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
    return state, (send, progress(state, "train", total=state.rows, waits_for=state.partner))


def terms_received(state: JobState, event: BulkReceived) -> Outcome:
    """A chunk of link terms: evaluate it."""
    current, chunk = state.round, event.chunk
    chunks = current.chunks if current.received else event.chunks  # the first chunk says how many there are
    expect_chunk(state, event, "terms_sequence", due=current.received, chunks=chunks)
    rows_per_chunk = rows_of_chunks(state, event.chunks)
    expect(
        rows_per_chunk > 0,
        "terms_sequence",
        f"{state.partner} cuts {state.rows} rows into {event.chunks} chunks, which the contract does not allow",
    )
    first = chunk * rows_per_chunk
    rows = min(rows_per_chunk, state.rows - first)
    blobs, feature_row = iterating.feature_blobs(state, first, rows)
    assert current.scores is not None
    assert state.features.matrix is not None
    task = compute(
        f"link.evaluate/{state.iteration}/{chunk}",
        "link.evaluate",
        {
            "iteration": state.iteration,
            "chunk": chunk,
            "chunks": event.chunks,
            "first_row": first,
            "rows": rows,
            "feature_row": feature_row,
            "bound": current.bound,
            "job": job_arguments(state),
            **inferring.arguments(state),
        },
        (event.body, current.scores, state.features.matrix, *inferring.along(state), *blobs),
        sends_bulk=True,
    )
    current = change(
        current,
        rows_per_chunk=rows_per_chunk,
        chunks=event.chunks,
        received=chunk + 1,
        in_work=put(current.in_work, chunk, event.body),
    )
    return change(state, round=current), (task,)


def terms_evaluated(state: JobState, event: Computed) -> Outcome:
    """A chunk of masked residuals to send, and its part of the cross term and of the own gradient."""
    chunk, output = chunk_of(event.task), output_of(event.output)
    current = state.round
    body = current.in_work[chunk]
    assert body is not None
    queue, sends = send_in_order("residual.share", current.queue, chunk, current.chunks, event.blobs[0])
    effects: tuple[AnyEffect, ...] = (*sends, Consumed(body=body))
    state = change(state, round=change(current, queue=queue))
    expect(
        current.terms in (-1, output["terms"]),
        "terms_sequence",
        f"{state.partner} changed the number of terms within iteration {state.iteration}",
    )
    state = iterating.accumulate(state, output)
    current = change(state.round, in_work=put(state.round.in_work, chunk, None), terms=output["terms"])
    state = change(state, round=current)
    if current.evaluated == current.chunks:
        state, more = iterating.close_cross(state)
        return state, (*effects, *more)
    done = min(state.rows, current.evaluated * current.rows_per_chunk)
    return state, (*effects, progress(state, "train", done=done, total=state.rows))
