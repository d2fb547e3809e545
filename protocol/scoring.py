"""Scores of the aligned rows: the provider's partial scores travel, the business adds its own.

`batch`: a chunk of partial scores after the other, then the results. `lookup`: both parties make ready what single
rows are answered from, and stay so until the job ends; requests and answers are no events of the job, because all
rows of the job were counted against the quota when they were aligned.
"""

from messages import schemas
from messages.streams import chunk_count
from protocol.effects import AnyEffect, BulkReceived, Computed, Consumed, Finish, Release, Send
from protocol.scoring_contract import ScoringContract, agreement_of, decode_scoring
from protocol.state import JobState, Phase
from protocol.steps import (
    Outcome,
    change,
    chunk_of,
    compute,
    expect,
    expect_chunk,
    is_business,
    progress,
    put,
    send_in_order,
    sender_of,
    whole,
    with_peer,
)

LOOKAHEAD = 4
ALL_ROWS = "all"
"""The name of the row set of a scoring job: all aligned rows."""


def terms_of(state: JobState) -> ScoringContract:
    """The scoring contract, decoded."""
    return decode_scoring(state.contract)


def match_arguments(state: JobState) -> dict[str, object]:
    """What decides how many rows may be scored: for the task that finds the common rows."""
    terms = terms_of(state)
    return {"role": state.role, "model": terms.model, "score_quota": terms.score_quota}


def aligned(state: JobState) -> Outcome:
    """Both parties have the same common rows: score them, or make ready to answer single ones."""
    state = change(state, phase=Phase.PROJECTING)
    effects: tuple[AnyEffect, ...] = ()
    if terms_of(state).mode == "lookup":
        effects = (_make_ready(state),)
    elif not is_business(state):
        state, effects = _project(state, LOOKAHEAD)
    waits_for = state.partner if is_business(state) else ""
    return state, (*effects, progress(state, "score", total=state.rows, waits_for=waits_for))


def _chunks(state: JobState) -> tuple[int, int]:
    """(rows in a chunk, chunks)."""
    rows = terms_of(state).chunk_rows_max
    return rows, chunk_count(state.rows, rows)


# -- all rows -------------------------------------------------------------------------------------------------


def _project(state: JobState, count: int) -> Outcome:
    """The provider rounds and seals the next chunks of its partial scores."""
    scoring, (rows, chunks) = state.scoring, _chunks(state)
    last = min(chunks, scoring.made + count)
    effects = tuple(
        compute(
            f"score.partial/0/{chunk}",
            "score.partial",
            {
                "part": ALL_ROWS,
                "iteration": 0,
                "chunk": chunk,
                "chunks": chunks,
                "first_row": chunk * rows,
                "rows": min(rows, state.rows - chunk * rows),
                "model": terms_of(state).model,
            },
            (scoring.scores, state.align.rows),
            sends_bulk=True,
        )
        for chunk in range(scoring.made, last)
    )
    return change(state, scoring=change(scoring, made=last)), effects


def projected(state: JobState, event: Computed) -> Outcome:
    """A chunk of partial scores is sealed: send it, take the next; after the last one the provider is done."""
    rows, chunks = _chunks(state)
    scoring = state.scoring
    queue, sends = send_in_order(
        "score.partial", scoring.queue, chunk_of(event.task), chunks, event.blobs[0], state.partner
    )
    state = change(state, scoring=change(scoring, queue=queue, computed=scoring.computed + 1))
    if state.scoring.computed == chunks:
        state = change(state, phase=Phase.CLOSING)
        return state, (*sends, Send(message=_done(state)), progress(state, "finish", waits_for=state.partner))
    state, effects = _project(state, 1)
    done = min(state.rows, state.scoring.computed * rows)
    return state, (*sends, *effects, progress(state, "score", done=done, total=state.rows))


def partial_received(state: JobState, event: BulkReceived) -> Outcome:
    """A chunk of the provider's partial scores: open it."""
    scoring, (rows, chunks) = state.scoring, _chunks(state)
    expect_chunk(event, sender_of(state, event), "partial_sequence", due=scoring.received, chunks=chunks)
    task = compute(
        f"score.open/0/{event.chunk}",
        "score.open",
        {
            "part": ALL_ROWS,
            "iteration": 0,
            "chunk": event.chunk,
            "chunks": chunks,
            "first_row": event.chunk * rows,
            "rows": min(rows, state.rows - event.chunk * rows),
        },
        (event.body,),
    )
    scoring = change(scoring, received=scoring.received + 1, opening=put(scoring.opening, event.chunk, event.body))
    return change(state, scoring=scoring), (task,)


def opened(state: JobState, event: Computed) -> Outcome:
    """A chunk of partial scores is checked; when all are, add the own scores."""
    scoring, chunk = state.scoring, chunk_of(event.task)
    rows, chunks = _chunks(state)
    body = scoring.opening[chunk]
    assert body is not None
    scoring = change(
        scoring,
        partials=put(scoring.partials, chunk, event.blobs[0]),
        opening=put(scoring.opening, chunk, None),
        computed=scoring.computed + 1,
    )
    state = change(state, scoring=scoring)
    done = progress(state, "score", done=min(state.rows, scoring.computed * rows), total=state.rows)
    if not whole(scoring.partials, chunks):
        return state, (Consumed(body=body), done)
    inputs = (state.snapshot, scoring.scores, state.align.rows, *scoring.partials)
    task = compute("score.results", "score.results", {"model": terms_of(state).model, "rows": state.rows}, inputs)
    return state, (Consumed(body=body), done, task)


def results_ready(state: JobState, event: Computed) -> Outcome:
    """The scores are stored: say done."""
    state = change(state, phase=Phase.CLOSING, results=event.blobs)
    send = Send(message=_done(state))
    state, effects = _finish_when_ready(state)
    return state, (send, *effects)


def done_received(state: JobState, message: schemas.JobDone, sender: str) -> Outcome:
    """The partner is done; it must have aligned the same rows by the same contract."""
    peer = state.peer(sender)
    expect(peer.said is None, "done_repeated", f"{peer.name} said job.done twice")
    expect(
        message == _done(state),
        "agreement_differs",
        f"{peer.name} scored other rows: its software or its journal differs from this party's",
    )
    said = (message.iterations, message.converged, message.agreement)
    return _finish_when_ready(with_peer(state, change(peer, said=said)))


def _done(state: JobState) -> schemas.JobDone:
    agreement = agreement_of(state.contract, state.align.digest, state.rows)
    return schemas.JobDone(iterations=0, converged=True, agreement=agreement, constant=0.0)


def _finish_when_ready(state: JobState) -> Outcome:
    if state.phase is not Phase.CLOSING or state.peers[0].said is None:
        return state, ()
    return change(state, phase=Phase.DONE), (Finish(outcome="done", results=state.results),)


# -- single rows ----------------------------------------------------------------------------------------------


def _make_ready(state: JobState) -> AnyEffect:
    """What single rows are answered from: own scores by identifier, or partial scores by number."""
    scoring, model = state.scoring, terms_of(state).model
    if is_business(state):
        schema = terms_of(state).identifier_schema
        inputs = (state.snapshot, scoring.scores, state.align.rows)
        return compute("score.index", "score.index", {"model": model, "schema": schema}, inputs)
    arguments = {"part": ALL_ROWS, "iteration": 0, "first_row": 0, "rows": state.rows, "model": model}
    return compute("score.hold", "score.hold", arguments, (scoring.scores, state.align.rows))


def made_ready(state: JobState, event: Computed) -> Outcome:
    """This party can answer, or ask. What the answers do not need is let go."""
    scoring = state.scoring
    used = tuple(Release(body=ref) for ref in (state.snapshot, scoring.scores, state.align.rows) if ref is not None)
    scoring = change(scoring, held=event.blobs[0], scores=None)
    state = change(state, snapshot=None, scoring=scoring, align=change(state.align, rows=None))
    if is_business(state):
        state, effects = _serve_when_ready(state)
        return state, (*used, *effects)
    state = change(state, phase=Phase.SERVING)
    return state, (*used, Send(message=schemas.ScoreReady(rows=state.rows)), progress(state, "serve"))


def ready_received(state: JobState, message: schemas.ScoreReady, sender: str) -> Outcome:
    """The provider answers from now on."""
    expect(
        message.rows == state.rows and not state.scoring.partner_ready,
        "ready_wrong",
        f"{sender} says that it answers for {message.rows} rows; {state.rows} were aligned, and once is enough",
    )
    return _serve_when_ready(change(state, scoring=change(state.scoring, partner_ready=True)))


def _serve_when_ready(state: JobState) -> Outcome:
    if state.scoring.held is None or not state.scoring.partner_ready:
        return state, ()
    return change(state, phase=Phase.SERVING), (progress(state, "serve"),)
