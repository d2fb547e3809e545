"""The business: has the labels, starts the job, encrypts the link terms, holds one share of the residuals."""

import math

from messages import schemas
from protocol import dividing, inferring, iterating, opening
from protocol.contract import INFERENCE_COLUMNS_MAX
from protocol.contract_rules import decode_contract
from protocol.effects import BulkReceived, Computed, Consumed, Finish, Send, Started
from protocol.facts import job_arguments, link_chunks
from protocol.peer import Peer
from protocol.samples import rows_now, sample_arguments, tolerance_arguments
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
    tell_all,
    waits_for,
    with_peer,
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
    sends = tell_all(state, schemas.JobPropose(contract=event.contract))
    return state, (*sends, progress(state, "propose", waits_for=waits_for(list(state.partners))))


def accepted(state: JobState, message: schemas.JobAccept, sender: str) -> Outcome:
    """A provider signed its half: align, when all have."""
    contract, peer = state.terms_of, state.peer(sender)
    opening.check_accepted(state, peer, message)
    expect(
        1 <= message.columns <= contract.columns_max,
        "columns",
        f"{peer.name} brings {message.columns} columns, the contract allows 1 to {contract.columns_max}",
    )
    expect(
        message.columns >= 3 or "few_columns" in contract.marks,
        "few_columns",
        f"{peer.name} brings {message.columns} columns; fewer than 3 need the mark few_columns",
    )
    expect(
        not contract.inference or message.columns <= INFERENCE_COLUMNS_MAX,
        "columns",
        f"{peer.name} brings {message.columns} columns, standard errors take at most {INFERENCE_COLUMNS_MAX}",
    )
    return opening.align_when_accepted(state, peer, message)


def declined(state: JobState, message: schemas.JobDecline, sender: str) -> Outcome:
    """A provider's policy says no: the job ends for all."""
    who = state.peer(sender).name
    finish = Finish(outcome="declined", reason_code=message.reason_code, reason=message.reason)
    if not state.several:
        return change(state, phase=Phase.DECLINED), (finish,)
    failed = schemas.JobFailed(reason_code="provider_declined", reason=f"{who} declined the job")
    told = tuple(Send(message=failed, recipient=name) for name in state.partners if name != who)
    return change(state, phase=Phase.DECLINED), (*told, change(finish, reason=f"{who}: {message.reason}"))


def scored(state: JobState, event: Computed) -> Outcome:
    """Own scores are there; plan the link expansion when the partner's range is too."""
    state, effects = iterating.took_step(state, event)
    state, more = _plan_when_ready(state)
    return state, (*effects, *more)


def curvature_scored(state: JobState, event: Computed) -> Outcome:
    """Own scores of a turn of the inference stage."""
    return _plan_when_ready(inferring.scored(state, event))


def range_received(state: JobState, message: schemas.ScoreRange, sender: str) -> Outcome:
    """A provider's score range of the iteration that is about to start."""
    peer = state.peer(sender)
    # Of several providers one may be on while this party waits for another's encrypted features or row.
    expect(
        state.phase not in (Phase.STEPPING, Phase.CODING) or state.several,
        "unexpected_message",
        f"score.range from {peer.name} before its row of products",
    )
    ahead = state.phase in (Phase.CODING, Phase.ENCRYPTING, Phase.STEPPING)
    # After a turn of the inference stage no row is waited for.
    ahead = ahead or (state.phase is Phase.CROSSING and state.inference is not None)
    seen = peer.early_range is not None if ahead else peer.round.range_received
    expect(
        message.iteration == state.iteration + (1 if ahead else 0) and not seen,
        "iteration_wrong",
        f"score.range of iteration {message.iteration} from {peer.name} in iteration {state.iteration}",
    )
    if ahead:
        # iterating.score() begins a new round: keep the first range where it survives.
        return with_peer(state, change(peer, early_range=(message.bound, message.spread))), ()
    return _plan_when_ready(with_peer(state, _ranged(peer, message.bound, message.spread)))


def _ranged(peer: Peer, bound: float, spread: float) -> Peer:
    current = change(peer.round, bound=bound, spread=spread, range_received=True)
    return change(peer, round=current, early_range=None)


def _plan_when_ready(state: JobState) -> Outcome:
    for peer in state.peers:
        if peer.early_range is not None and not peer.round.range_received:
            state = with_peer(state, _ranged(peer, *peer.early_range))
    current = state.round
    missing = [peer.name for peer in state.peers if not peer.round.range_received]
    if not current.scored or missing or current.planned:
        return state, ((progress(state, "train", waits_for=waits_for(missing)),) if missing else ())
    # The scores add up; so do their bounds, and their spreads at most (Minkowski).
    bound = math.fsum(peer.round.bound for peer in state.peers)
    spread = (
        min(bound, math.fsum(peer.round.spread for peer in state.peers))
        if state.several
        else (state.peers[0].round.spread)
    )
    current = change(current, bound=bound, spread=spread, planned=True)
    task = compute(
        f"link.plan/{state.iteration}",
        "link.plan",
        {
            "iteration": state.iteration,
            "bound": bound,
            "spread": spread,
            "loop": state.loop,
            "job": job_arguments(state),
            **inferring.arguments(state),
            **tolerance_arguments(state),
        },
    )
    return change(state, round=current), (task,)


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
    return state, (*effects, progress(state, "train", total=rows_now(state)))


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
                    "rows": min(current.rows_per_chunk, rows_now(state) - first),
                    "terms": current.terms,
                    "stretch": current.stretch,
                    "bound": current.bound,
                    "spread": current.spread,
                    "job": job_arguments(state),
                    **inferring.arguments(state),
                    **sample_arguments(state),
                },
                (current.scores, state.features.label, *inferring.along(state)),
                sends_bulk=True,
                partner=state.partner,
            )
        )
        made += 1
    return change(state, round=change(current, chunks_made=made)), tuple(effects)


def terms_encrypted(state: JobState, event: Computed) -> Outcome:
    """A chunk of link terms is sealed: send it, encrypt the next."""
    current = state.round
    queue, sends = send_in_order(
        "link.terms", current.queue, chunk_of(event.task), current.chunks, event.blobs[0], state.partner
    )
    state = change(state, round=change(current, queue=queue, chunks_computed=current.chunks_computed + 1))
    state, effects = _encrypt_terms(state)
    return state, (*sends, *effects)


def share_received(state: JobState, event: BulkReceived) -> Outcome:
    """A chunk of masked residuals from the last provider: open it."""
    current, chunk, holder = state.round, event.chunk, sender_of(state, event)
    expect_chunk(event, holder, "share_sequence", due=current.received, chunks=current.chunks)
    first = chunk * current.rows_per_chunk
    rows = min(current.rows_per_chunk, rows_now(state) - first)
    others, blobs = iterating.cross_inputs(state, first, rows)
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
            "job": job_arguments(state, holder),
            **others,
        },
        (event.body, state.features.matrix, *blobs),
        partner=holder.name,
    )
    current = change(current, received=chunk + 1, in_work=put(current.in_work, chunk, event.body))
    return change(state, round=current), (task,)


def share_opened(state: JobState, event: Computed) -> Outcome:
    """A chunk's part of the cross term and of the own gradient."""
    chunk = chunk_of(event.task)
    body = state.round.in_work[chunk]
    assert body is not None
    consumed = Consumed(body=body, sender=state.partners[-1])
    state = iterating.accumulate(state, output_of(event.output))
    current = change(state.round, in_work=put(state.round.in_work, chunk, None))
    state = change(state, round=current)
    done = min(rows_now(state), current.evaluated * current.rows_per_chunk)
    if current.evaluated == current.chunks:
        state, effects = iterating.close_cross(state)
        return state, (consumed, *effects)
    state, effects = _encrypt_terms(state)
    return state, (consumed, *effects, progress(state, "train", done=done, total=rows_now(state)))
