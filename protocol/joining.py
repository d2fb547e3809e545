"""The rows that all parties of a job with several providers have (docs/alignment.md, "Several providers").

The business has the tokens of both lists of every pair. It intersects them all, puts the rows into the token order
of the first pair, and tells each provider the places in that provider's own sorted list. Every provider checks
places, policy and its release rules, and answers with what these allow; the business tells all the least of it.
"""

from typing import Final

from messages import schemas
from messages.streams import chunk_count
from protocol import coding, dividing, evaluating, pairs, samples, scoring
from protocol.effects import AnyEffect, BulkReceived, Computed, Consumed, Release, Send
from protocol.facts import all_columns
from protocol.peer import PairAlignment, Peer
from protocol.state import SCORING_ROLES, Alignment, JobState
from protocol.steps import (
    Outcome,
    change,
    chunk_of,
    compute,
    expect,
    expect_chunk,
    is_business,
    output_of,
    peer_of_task,
    progress,
    put,
    send_in_order,
    sender_of,
    task_name,
    waits_for,
    whole,
)

LOOKAHEAD: Final = 4


def _release_arguments(state: JobState) -> dict[str, object]:
    if state.role in SCORING_ROLES:
        return scoring.match_arguments(state)
    contract = state.terms_of
    return {
        "columns": {name: count for name, count in all_columns(state).items() if name != state.me},
        "own_columns": state.own_columns,
        "max_iterations": contract.max_iterations,
        "small_sample": contract.small_sample,
        **dividing.arguments(state),
        **samples.tariff_arguments(state),
        **evaluating.quota(state),
    }


def join_when_ready(state: JobState) -> Outcome:
    """Join the lists, or take the common rows over, when everything for it is there."""
    if state.align.matching or not dividing.agreed(state):
        return state, ()
    return _begin_when_ready(state) if is_business(state) else _adopt_when_ready(state)


# -- at the business ------------------------------------------------------------------------------------------------


def _begin_when_ready(state: JobState) -> Outcome:
    """All tokens of all pairs are there: join them."""
    if not all(pairs.tokens_whole(state, peer.align) for peer in state.peers):
        return state, ()
    assert state.snapshot is not None
    lists = [
        {
            "name": peer.name,
            "own_chunks": len(peer.align.own_tokens),
            "partner_chunks": peer.align.partner_chunks,
            "commitment": peer.align.partner_commitment,
        }
        for peer in state.peers
    ]
    inputs = [
        ref
        for peer in state.peers
        for ref in (peer.align.order, *peer.align.own_tokens, *peer.align.partner_tokens, *peer.align.points)
    ]
    task = compute("align.join", "align.join", {"pairs": lists, **_release_arguments(state)}, (state.snapshot, *inputs))
    return change(state, align=change(state.align, matching=True)), (task,)


def joined(state: JobState, event: Computed) -> Outcome:
    """The common rows are known: tell every provider its places."""
    output = output_of(event.output)
    rows, *places = event.blobs
    effects: list[AnyEffect] = []
    state = change(
        dividing.divided(state, output),
        align=Alignment(rows=rows, count=output["count"], iterations_allowed=output["iterations_allowed"]),
    )
    for peer, own, digest in zip(state.peers, places, output["digests"], strict=True):
        pair = peer.align
        used = (pair.sorted_list, pair.order, *pair.points, *pair.partner_tokens, *pair.own_tokens)
        effects += [Release(body=ref) for ref in used if ref is not None]
        state = pairs.aligned(state, peer, PairAlignment(places=own, digest=digest))
        state, more = _seal_places(state, peer.name, LOOKAHEAD)
        effects += more
    return state, (*effects, progress(state, "align", waits_for=waits_for(list(state.partners))))


def _place_chunks(state: JobState) -> int:
    return chunk_count(state.align.count, state.alignment_terms.align_chunk_items)


def _seal_places(state: JobState, name: str, count: int) -> Outcome:
    peer, chunks = state.peer(name), _place_chunks(state)
    align = peer.align
    last = min(chunks, align.places_made + count)
    effects = tuple(
        compute(
            task_name(state, "align.common", peer, chunk),
            "align.common",
            {"chunk": chunk, "chunks": chunks, "items": state.alignment_terms.align_chunk_items},
            (align.places,),
            sends_bulk=True,
            partner=name,
        )
        for chunk in range(align.places_made, last)
    )
    return pairs.aligned(state, peer, change(align, places_made=last)), effects


def sealed(state: JobState, event: Computed) -> Outcome:
    """A chunk of a provider's places is sealed: send it, seal the next."""
    peer, chunk = peer_of_task(state, event.task), chunk_of(event.task)
    align, chunks = peer.align, _place_chunks(state)
    queue, sends = send_in_order("align.common", align.places_queue, chunk, chunks, event.blobs[0], peer.name)
    align = change(align, places_queue=queue)
    dropped: tuple[AnyEffect, ...] = ()
    if queue.sent == chunks and align.places is not None:
        dropped, align = (Release(body=align.places),), change(align, places=None)
    state = pairs.aligned(state, peer, align)
    if align.places is None:
        return state, (*sends, *dropped)
    state, effects = _seal_places(state, peer.name, 1)
    return state, (*sends, *effects)


# -- at a provider --------------------------------------------------------------------------------------------------


def places_received(state: JobState, event: BulkReceived) -> Outcome:
    """A chunk of the common rows, as places in the own list."""
    peer = sender_of(state, event)
    align = peer.align
    # The first chunk says how many there are: no more than the shorter list has.
    most = chunk_count(min(state.own_rows, align.partner_count), state.alignment_terms.align_chunk_items)
    chunks = align.places_chunks if align.places_received else min(event.chunks, most)
    expect_chunk(event, peer, "places_sequence", due=align.places_received, chunks=chunks)
    task = compute(
        task_name(state, "align.places", peer, event.chunk),
        "align.places",
        {
            "chunk": event.chunk,
            "chunks": chunks,
            "items": state.alignment_terms.align_chunk_items,
            "rows": state.own_rows,
        },
        (event.body,),
        partner=peer.name,
    )
    align = change(
        align,
        places_received=event.chunk + 1,
        places_chunks=chunks,
        places_opening=put(align.places_opening, event.chunk, event.body),
    )
    return pairs.aligned(state, peer, align), (task,)


def places_opened(state: JobState, event: Computed) -> Outcome:
    """A chunk of places is open; when all are, they are checked and taken over."""
    peer, chunk = peer_of_task(state, event.task), chunk_of(event.task)
    body = peer.align.places_opening[chunk]
    assert body is not None
    align = change(
        peer.align,
        places_opened=put(peer.align.places_opened, chunk, event.blobs[0]),
        places_opening=put(peer.align.places_opening, chunk, None),
    )
    state = pairs.aligned(state, peer, align)
    consumed = Consumed(body=body, sender=peer.name)
    state, effects = join_when_ready(state)
    return state, (consumed, *effects)


def _adopt_when_ready(state: JobState) -> Outcome:
    """All places are open, and the seeds of their division are there, if they are divided: take the rows over."""
    peer = state.peers[0]
    align = peer.align
    if not align.places_opened or not whole(align.places_opened, align.places_chunks):
        return state, ()
    # Places in a list that is not out whole, or before the other list is answered, cannot be honest.
    out = align.lists.sent == chunk_count(state.own_rows, state.alignment_terms.align_chunk_items)
    expect(
        out and len(align.points) == align.partner_chunks and align.order is not None,
        "places_early",
        f"{peer.name} names common rows before both lists are out",
    )
    terms = state.alignment_terms
    task = compute(
        "align.adopt",
        "align.adopt",
        {
            "places_chunks": align.places_chunks,
            "partner_rows": align.partner_count,
            "commitment": align.partner_commitment,
            **({"people": terms.identifier_schema} if terms.masks_bound else {}),
            **_release_arguments(state),
        },
        (state.snapshot, align.order, *align.places_opened, *align.points),
        partner=peer.name,
    )
    return change(state, align=change(state.align, matching=True)), (task,)


def adopted(state: JobState, event: Computed) -> Outcome:
    """The common rows are this party's rows: say what its release rules leave for them."""
    output, peer = output_of(event.output), state.peers[0]
    pair = peer.align
    used = (pair.sorted_list, pair.order, *pair.points, *pair.partner_tokens, *pair.places_opened)
    state = dividing.divided(state, output)
    align = Alignment(
        rows=event.blobs[0],
        count=output["count"],
        digest=output["digest"],
        iterations_allowed=output["iterations_allowed"],
        people=output.get("people", b""),
    )
    state = pairs.aligned(change(state, align=align), peer, PairAlignment(result=pair.result))
    send = Send(
        message=schemas.AlignResult(
            count=align.count, digest=align.digest, iterations_allowed=align.iterations_allowed
        ),
        recipient=peer.name,
    )
    dropped = tuple(Release(body=ref) for ref in used if ref is not None)
    return state, (send, *dropped, progress(state, "align", waits_for=peer.name))


# -- the result -----------------------------------------------------------------------------------------------------


def result_received(state: JobState, name: str) -> Outcome:
    """A provider has taken its rows over; or the business, having heard all, says how many iterations there are."""
    peer, align = state.peer(name), state.align
    assert peer.align.result is not None
    count, digest, allowed = peer.align.result
    expect(
        align.count >= 0 and (is_business(state) or bool(align.digest)),
        "align_early",
        f"{peer.name} sends its result before there are rows",
    )
    expect(
        (count, digest) == (align.count, _own_digest(state, peer)),
        "align_differs",
        f"the common rows differ: {align.count} rows here, {count} at {peer.name}",
    )
    if not is_business(state):
        expect(
            allowed <= align.iterations_allowed,
            "release_cap",
            f"{peer.name} wants {allowed} iterations, this party's release rules leave {align.iterations_allowed}",
        )
        return _follow(state, allowed)
    missing = [one.name for one in state.peers if one.align.result is None]
    if missing:
        return state, (progress(state, "align", waits_for=waits_for(missing)),)
    least = min(align.iterations_allowed, *(one.align.result[2] for one in state.peers if one.align.result))
    sends = tuple(
        Send(
            message=schemas.AlignResult(count=align.count, digest=one.align.digest, iterations_allowed=least),
            recipient=one.name,
        )
        for one in state.peers
    )
    state, effects = _follow(state, least)
    return state, (*sends, *effects)


def _follow(state: JobState, iterations: int) -> Outcome:
    """What comes after the alignment, in a job of either kind."""
    state = change(state, rows=sum(state.parts.blocks) or state.align.count)
    if state.role in SCORING_ROLES:
        return scoring.aligned(state)
    samples.check_blocks(state)
    return coding.start(change(state, iterations_max=min(state.terms_of.max_iterations, iterations)))


def _own_digest(state: JobState, peer: Peer) -> bytes:
    return peer.align.digest if is_business(state) else state.align.digest
