"""The end of an alignment: the rows that both lists have, and that both parties found the same (docs/alignment.md)."""

from messages import schemas
from protocol import coding, dividing, evaluating, inferring, joining, pairs, samples, scoring
from protocol.effects import Computed, Release, Send
from protocol.peer import PairAlignment
from protocol.state import SCORING_ROLES, Alignment, JobState
from protocol.steps import Outcome, change, compute, expect, output_of, progress


def seed_received(state: JobState, message: schemas.PartsSeed, sender: str) -> Outcome:
    """The partner's seed of the parts: the common rows cannot be divided before."""
    state, shown = dividing.seed_received(state, message, sender)
    state, effects = match_when_ready(state)
    return state, (*shown, *effects)


def match_when_ready(state: JobState) -> Outcome:
    """Match the tokens of both lists, when they are whole; with several providers those of all pairs."""
    if state.several:
        return joining.join_when_ready(state)
    if state.align.matching or not dividing.agreed(state):
        return state, ()
    align = state.peers[0].align
    if not pairs.tokens_whole(state, align):
        return state, ()
    assert align.order is not None
    assert state.snapshot is not None
    task = compute(
        "align.match",
        "align.match",
        {
            "own_chunks": len(align.own_tokens),
            "partner_chunks": align.partner_chunks,
            "commitment": align.partner_commitment,
            **_release_arguments(state),
        },
        (state.snapshot, align.order, *align.own_tokens, *align.partner_tokens, *align.points),
    )
    return change(state, align=change(state.align, matching=True)), (task,)


def _release_arguments(state: JobState) -> dict[str, object]:
    """What this party's own rules for releases need to know: of a training job, or of a scoring job."""
    if state.role in SCORING_ROLES:
        return scoring.match_arguments(state)
    contract = state.terms_of
    return {
        "own_columns": state.own_columns,
        "partner_columns": state.peers[0].columns,
        "max_iterations": contract.max_iterations,
        "small_sample": contract.small_sample,
        **dividing.arguments(state),
        **inferring.reserved(state),
        **samples.tariff_arguments(state),
        **evaluating.quota(state),
    }


def matched(state: JobState, event: Computed) -> Outcome:
    """The own result: tell the partner, compare when its result is here."""
    output, peer = output_of(event.output), state.peers[0]
    state, pair = dividing.divided(state, output), peer.align
    used = (pair.sorted_list, pair.order, *pair.points, *pair.partner_tokens, *pair.own_tokens)
    align = Alignment(
        rows=event.blobs[0],
        count=output["count"],
        digest=output["digest"],
        iterations_allowed=output["iterations_allowed"],
    )
    send = Send(
        message=schemas.AlignResult(count=align.count, digest=align.digest, iterations_allowed=align.iterations_allowed)
    )
    dropped = tuple(Release(body=ref) for ref in used if ref is not None)
    state = pairs.aligned(change(state, align=align), peer, PairAlignment(result=pair.result))
    state, effects = _compare(state)
    return state, (send, *dropped, *effects)


def result_received(state: JobState, message: schemas.AlignResult, sender: str) -> Outcome:
    """The partner's result."""
    peer = state.peer(sender)
    expect(peer.align.result is None, "align_repeated", f"{peer.name} sent its result twice")
    result = (message.count, message.digest, message.iterations_allowed)
    state = pairs.aligned(state, peer, change(peer.align, result=result))
    return joining.result_received(state, peer.name) if state.several else _compare(state)


def _compare(state: JobState) -> Outcome:
    align, peer = state.align, state.peers[0]
    if align.count < 0:
        return state, ()
    if peer.align.result is None:
        return state, (progress(state, "align", waits_for=peer.name),)
    count, digest, allowed = peer.align.result
    expect(
        (count, digest) == (align.count, align.digest),
        "align_differs",
        f"the intersections differ: {align.count} rows here, {count} at {peer.name}",
    )
    if state.role in SCORING_ROLES:
        return scoring.aligned(change(state, rows=count))
    iterations = min(state.terms_of.max_iterations, align.iterations_allowed, allowed)
    rows = sum(state.parts.blocks) or align.count
    return coding.start(change(state, rows=rows, iterations_max=iterations))
