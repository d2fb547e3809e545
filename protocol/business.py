"""The business: has the labels, starts the job, encrypts the link terms, holds one share of the residuals."""

from messages import schemas
from protocol import aligning, dividing, inferring, iterating
from protocol.contract import INFERENCE_COLUMNS_MAX, contract_digest, decode_contract
from protocol.effects import BulkReceived, Computed, Consumed, Finish, Send, Started
from protocol.facts import job_arguments, link_chunks
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

LOOKAHEAD = 3
OUTSTANDING_MAX = 12
"""Link chunks computed and not yet answered, at most: less than one window, so credit never starves."""


def started(state: JobState, event: Started) -> Outcome:
    """The operator submitted the job: propose it."""
    contract = decode_contract(event.contract)
    state = change(
        dividing.begin_business(state, contract, event.facts),
        phase=Phase.PROPOSED,
        contract=event.contract,
        snapshot=event.blobs[0],
        own_rows=contract.business_rows,
        own_columns=contract.business_columns + 1,
    )
    send = Send(message=schemas.JobPropose(contract=event.contract))
    return state, (send, progress(state, "propose", waits_for=state.partner))


def accepted(state: JobState, message: schemas.JobAccept) -> Outcome:
    """The provider signed its half: align."""
    contract = state.terms_of
    expect(
        message.contract_digest == contract_digest(state.contract),
        "contract_differs",
        f"{state.partner} accepted another contract than the one proposed",
    )
    expect(
        1 <= message.columns <= contract.columns_max,
        "columns",
        f"{state.partner} brings {message.columns} columns, the contract allows 1 to {contract.columns_max}",
    )
    expect(
        message.columns >= 3 or "few_columns" in contract.marks,
        "few_columns",
        f"{state.partner} brings {message.columns} columns; fewer than 3 need the mark few_columns",
    )
    expect(
        not contract.inference or message.columns <= INFERENCE_COLUMNS_MAX,
        "columns",
        f"{state.partner} brings {message.columns} columns, standard errors take at most {INFERENCE_COLUMNS_MAX}",
    )
    state = change(state, partner_rows=message.rows, partner_columns=message.columns)
    return aligning.start(state)


def declined(state: JobState, message: schemas.JobDecline) -> Outcome:
    """The provider's policy says no."""
    finish = Finish(outcome="declined", reason_code=message.reason_code, reason=message.reason)
    return change(state, phase=Phase.DECLINED), (finish,)


def scored(state: JobState, event: Computed) -> Outcome:
    """Own scores are there; plan the link expansion when the partner's range is too."""
    state, effects = iterating.took_step(state, event)
    state, more = _plan_when_ready(state)
    return state, (*effects, *more)


def curvature_scored(state: JobState, event: Computed) -> Outcome:
    """Own scores of a turn of the inference stage."""
    return _plan_when_ready(inferring.scored(state, event))


def range_received(state: JobState, message: schemas.ScoreRange) -> Outcome:
    """The provider's score range of the iteration that is about to start."""
    ahead = state.phase is Phase.ENCRYPTING or (state.phase is Phase.CROSSING and state.inference is not None)
    seen = state.early_range is not None if ahead else state.round.range_received
    expect(
        message.iteration == state.iteration + (1 if ahead else 0) and not seen,
        "iteration_wrong",
        f"score.range of iteration {message.iteration} from {state.partner} in iteration {state.iteration}",
    )
    if ahead:
        # iterating.score() begins a new round: keep the first range where it survives.
        return change(state, early_range=(message.bound, message.spread)), ()
    state = change(state, round=change(state.round, bound=message.bound, spread=message.spread, range_received=True))
    return _plan_when_ready(state)


def _plan_when_ready(state: JobState) -> Outcome:
    current = state.round
    if state.early_range is not None and not current.range_received:
        bound, spread = state.early_range
        current = change(current, bound=bound, spread=spread, range_received=True)
        state = change(state, early_range=None, round=current)
    if not current.scored or not current.range_received or current.planned:
        return state, (() if current.range_received else (progress(state, "train", waits_for=state.partner),))
    task = compute(
        f"link.plan/{state.iteration}",
        "link.plan",
        {
            "iteration": state.iteration,
            "bound": current.bound,
            "spread": current.spread,
            "loop": state.loop,
            "job": job_arguments(state),
            **inferring.arguments(state),
        },
    )
    return change(state, round=change(current, planned=True)), (task,)


def planned(state: JobState, event: Computed) -> Outcome:
    """The expansion is chosen: encrypt the first chunks."""
    output = output_of(event.output)
    rows, chunks = link_chunks(state, output["terms"])
    current = change(
        state.round,
        terms=output["terms"],
        stretch=output["stretch"],
        bound=output["bound"],
        rows_per_chunk=rows,
        chunks=chunks,
    )
    state, effects = _encrypt_terms(change(state, phase=Phase.LINKING, round=current))
    return state, (*effects, progress(state, "train", total=state.rows))


def _encrypt_terms(state: JobState) -> Outcome:
    """Keep the executor busy, but not further ahead of the provider than OUTSTANDING_MAX chunks."""
    current, effects = state.round, []
    made = current.chunks_made
    assert current.scores is not None
    assert state.features.label is not None
    while (
        made < current.chunks
        and made - current.chunks_computed < LOOKAHEAD
        and made - current.evaluated < OUTSTANDING_MAX
    ):
        first = made * current.rows_per_chunk
        effects.append(
            compute(
                f"link.terms/{state.iteration}/{made}",
                "link.terms",
                {
                    "iteration": state.iteration,
                    "chunk": made,
                    "chunks": current.chunks,
                    "first_row": first,
                    "rows": min(current.rows_per_chunk, state.rows - first),
                    "terms": current.terms,
                    "stretch": current.stretch,
                    "bound": current.bound,
                    "spread": current.spread,
                    "job": job_arguments(state),
                    **inferring.arguments(state),
                },
                (current.scores, state.features.label, *inferring.along(state)),
                sends_bulk=True,
            )
        )
        made += 1
    return change(state, round=change(current, chunks_made=made)), tuple(effects)


def terms_encrypted(state: JobState, event: Computed) -> Outcome:
    """A chunk of link terms is sealed: send it, encrypt the next."""
    current = state.round
    queue, sends = send_in_order("link.terms", current.queue, chunk_of(event.task), current.chunks, event.blobs[0])
    state = change(state, round=change(current, queue=queue, chunks_computed=current.chunks_computed + 1))
    state, effects = _encrypt_terms(state)
    return state, (*sends, *effects)


def share_received(state: JobState, event: BulkReceived) -> Outcome:
    """A chunk of masked residuals: open it."""
    current, chunk = state.round, event.chunk
    expect_chunk(state, event, "share_sequence", due=current.received, chunks=current.chunks)
    first = chunk * current.rows_per_chunk
    rows = min(current.rows_per_chunk, state.rows - first)
    blobs, feature_row = iterating.feature_blobs(state, first, rows)
    assert state.features.matrix is not None
    task = compute(
        f"residual.open/{state.iteration}/{chunk}",
        "residual.open",
        {
            "iteration": state.iteration,
            "chunk": chunk,
            "chunks": current.chunks,
            "first_row": first,
            "rows": rows,
            "feature_row": feature_row,
            "job": job_arguments(state),
        },
        (event.body, state.features.matrix, *blobs),
    )
    current = change(current, received=chunk + 1, in_work=put(current.in_work, chunk, event.body))
    return change(state, round=current), (task,)


def share_opened(state: JobState, event: Computed) -> Outcome:
    """A chunk's part of the cross term and of the own gradient."""
    chunk = chunk_of(event.task)
    body = state.round.in_work[chunk]
    assert body is not None
    consumed = Consumed(body=body)
    state = iterating.accumulate(state, output_of(event.output))
    current = change(state.round, in_work=put(state.round.in_work, chunk, None))
    state = change(state, round=current)
    done = min(state.rows, current.evaluated * current.rows_per_chunk)
    if current.evaluated == current.chunks:
        state, effects = iterating.close_cross(state)
        return state, (consumed, *effects)
    state, effects = _encrypt_terms(state)
    return state, (consumed, *effects, progress(state, "train", done=done, total=state.rows))
