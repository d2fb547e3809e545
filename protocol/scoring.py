"""Scores of the aligned rows: the providers' partial scores travel, the business adds its own.

Of several providers the business learns the sum alone: each adds masks that cancel between it and every other.

`batch`: a chunk of partial scores after the other, then the results. `lookup`: both parties make ready what single
rows are answered from, and stay so until the job ends; requests and answers are no events of the job, because all
rows of the job were counted against the quota when they were aligned.
"""

from messages import schemas
from protocol import partials
from protocol.effects import AnyEffect, BulkReceived, Computed, Finish, Release, Send
from protocol.partials import Stream
from protocol.peer import Peer
from protocol.scoring_contract import ScoringContract, agreement_of, decode_scoring
from protocol.state import JobState, Phase
from protocol.steps import (
    Outcome,
    change,
    chunk_of,
    compute,
    expect,
    is_business,
    peer_of_task,
    progress,
    send_in_order,
    sender_of,
    waits_for,
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
    return {"role": state.role, "model": terms.model, "score_quota": terms.score_quota, **_classes(state)}


def _classes(state: JobState) -> dict[str, object]:
    """What tasks are told of a model of several classes; nothing for a model of one score."""
    classes = terms_of(state).classes
    return {"classes": classes} if classes else {}


def aligned(state: JobState) -> Outcome:
    """All parties have the same common rows: score them, or make ready to answer single ones."""
    return _begin_when_ready(change(state, phase=Phase.PROJECTING))


def mask_key_received(state: JobState, message: schemas.MaskKey, sender: str) -> Outcome:
    """A fellow provider's half of the masks that cancel between both."""
    peer = state.peer(sender)
    expect(not peer.features.mask_key, "mask_key_repeated", f"{peer.name} sent two mask keys")
    others = [one.features.mask_key for one in state.peers]
    expect(
        message.public not in (state.scoring.mask_key, *others),
        "mask_key_wrong",
        f"{peer.name} sent the mask key of another party",
    )
    state = with_peer(state, change(peer, features=change(peer.features, mask_key=message.public)))
    return _begin_when_ready(state)


def _begin_when_ready(state: JobState) -> Outcome:
    """Of several providers none scores a row before it can hide its score from the business."""
    missing = [] if is_business(state) else [one.name for one in state.peers[1:] if not one.features.mask_key]
    if state.phase is not Phase.PROJECTING:
        return state, ()
    if missing:
        return state, (progress(state, "score", waits_for=waits_for(missing)),)
    effects: tuple[AnyEffect, ...] = ()
    if terms_of(state).mode == "lookup":
        effects = (_make_ready(state),)
    elif not is_business(state):
        state, effects = _project(state, LOOKAHEAD)
    waited = waits_for(list(state.partners)) if is_business(state) else ""
    return state, (*effects, progress(state, "score", total=state.rows, waits_for=waited))


def _masks(state: JobState) -> dict[str, object]:
    """What a provider needs to hide its scores among those of the others: nothing where it is the only one."""
    if not state.several:
        return {}
    keys = {peer.name: peer.features.mask_key for peer in state.peers[1:]}
    people = {"people": state.align.people} if state.align.people else {}
    return {"masks": {"order": list(terms_of(state).parties), "keys": keys, **people}}


def _stream(state: JobState) -> Stream:
    terms = terms_of(state)
    return Stream(ALL_ROWS, 0, state.rows, terms.chunk_rows_max, terms.classes)


# -- all rows -------------------------------------------------------------------------------------------------


def _project(state: JobState, count: int) -> Outcome:
    """The provider rounds and seals the next chunks of its partial scores."""
    scoring, stream = state.scoring, _stream(state)
    last = min(stream.chunks, scoring.made + count)
    effects = tuple(
        compute(
            f"score.partial/0/{chunk}",
            "score.partial",
            {
                **stream.place(chunk),
                "model": terms_of(state).model,
                **_classes(state),
                **_masks(state),
            },
            (scoring.scores, state.align.rows),
            sends_bulk=True,
        )
        for chunk in range(scoring.made, last)
    )
    return change(state, scoring=change(scoring, made=last)), effects


def projected(state: JobState, event: Computed) -> Outcome:
    """A chunk of partial scores is sealed: send it, take the next; after the last one the provider is done."""
    scoring, stream = state.scoring, _stream(state)
    queue, sends = send_in_order(
        "score.partial", scoring.queue, chunk_of(event.task), stream.chunks, event.blobs[0], state.partner
    )
    state = change(state, scoring=change(scoring, queue=queue, computed=scoring.computed + 1))
    if state.scoring.computed == stream.chunks:
        state = change(state, phase=Phase.CLOSING)
        said = Send(message=_done(state, state.peers[0]))
        return state, (*sends, said, progress(state, "finish", waits_for=state.partner))
    state, effects = _project(state, 1)
    done = min(state.rows, state.scoring.computed * stream.chunk_rows)
    return state, (*sends, *effects, progress(state, "score", done=done, total=state.rows))


def partial_received(state: JobState, event: BulkReceived) -> Outcome:
    """A chunk of a provider's partial scores: open it."""
    peer = sender_of(state, event)
    scores, task = partials.received(state, event, peer, peer.scores, _stream(state), 0)
    return with_peer(state, change(peer, scores=scores)), (task,)


def opened(state: JobState, event: Computed) -> Outcome:
    """A chunk of partial scores is checked; when all of all providers are, add the own scores."""
    peer, scoring, stream = peer_of_task(state, event.task), state.scoring, _stream(state)
    scores, consumed = partials.opened(event, peer, peer.scores)
    scoring = change(scoring, computed=scoring.computed + 1)
    state = change(with_peer(state, change(peer, scores=scores)), scoring=scoring)
    done = min(state.rows, scoring.computed // len(state.peers) * stream.chunk_rows)
    shown = progress(state, "score", done=done, total=state.rows)
    if not all(partials.complete(one.scores, stream) for one in state.peers):
        return state, (consumed, shown)
    told = [ref for one in state.peers for ref in one.scores.partials]
    inputs = (state.snapshot, scoring.scores, state.align.rows, *told)
    arguments = {"model": terms_of(state).model, "rows": state.rows, **_classes(state)}
    task = compute("score.results", "score.results", arguments, inputs)
    return state, (consumed, shown, task)


def results_ready(state: JobState, event: Computed) -> Outcome:
    """The scores are stored: say done."""
    state = change(state, phase=Phase.CLOSING, results=event.blobs)
    sends = tuple(Send(message=_done(state, peer), recipient=peer.name) for peer in state.peers)
    state, effects = _finish_when_ready(state)
    return state, (*sends, *effects)


def done_received(state: JobState, message: schemas.JobDone, sender: str) -> Outcome:
    """The partner is done; it must have aligned the same rows by the same contract."""
    peer = state.peer(sender)
    expect(peer.said is None, "done_repeated", f"{peer.name} said job.done twice")
    expect(
        message == _done(state, peer),
        "agreement_differs",
        f"{peer.name} scored other rows: its software or its journal differs from this party's",
    )
    said = (message.iterations, message.converged, message.agreement)
    return _finish_when_ready(with_peer(state, change(peer, said=said)))


def _done(state: JobState, peer: Peer) -> schemas.JobDone:
    # With several providers each has a digest of the places in its own list, which the business has of every one.
    digest = peer.align.digest if state.several and is_business(state) else state.align.digest
    agreement = agreement_of(state.contract, digest, state.rows)
    return schemas.JobDone(iterations=0, converged=True, agreement=agreement, constant=0.0)


def _finish_when_ready(state: JobState) -> Outcome:
    # A provider has nothing to hear of its fellows: only the business says that there are scores.
    told = state.peers if is_business(state) else state.peers[:1]
    if state.phase is not Phase.CLOSING or any(peer.said is None for peer in told):
        return state, ()
    return change(state, phase=Phase.DONE), (Finish(outcome="done", results=state.results),)


# -- single rows ----------------------------------------------------------------------------------------------


def _make_ready(state: JobState) -> AnyEffect:
    """What single rows are answered from: own scores by identifier, or partial scores by number."""
    scoring, model = state.scoring, terms_of(state).model
    if is_business(state):
        schema = terms_of(state).identifier_schema
        inputs = (state.snapshot, scoring.scores, state.align.rows)
        return compute("score.index", "score.index", {"model": model, "schema": schema, **_classes(state)}, inputs)
    rows = {"part": ALL_ROWS, "iteration": 0, "first_row": 0, "rows": state.rows}
    arguments = {**rows, "model": model, **_classes(state), **_masks(state)}
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
    """A provider answers from now on."""
    peer = state.peer(sender)
    expect(
        message.rows == state.rows and not peer.scores.ready,
        "ready_wrong",
        f"{peer.name} says that it answers for {message.rows} rows; {state.rows} were aligned, and once is enough",
    )
    return _serve_when_ready(with_peer(state, change(peer, scores=change(peer.scores, ready=True))))


def _serve_when_ready(state: JobState) -> Outcome:
    if state.scoring.held is None or not all(peer.scores.ready for peer in state.peers):
        return state, ()
    return change(state, phase=Phase.SERVING), (progress(state, "serve"),)
