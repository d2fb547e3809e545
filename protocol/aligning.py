"""Alignment: both parties learn which of their rows the other has too (design: docs/alignment.md).

Data flow, the same at both parties: mask own identifiers chunk by chunk; sort; exchange sizes and commitments;
stream the sorted list; answer each chunk of the partner's list with tokens, in order; open the partner's
answers; then `matching`. Of several providers each does so with the business, which answers none of them:
what follows then is in `joining`.
"""

import hashlib
from typing import Final

from messages import schemas
from messages.streams import chunk_count
from protocol import matching, pairs
from protocol.effects import AnyEffect, BulkReceived, Computed, Consumed, Release, Send, SendBulk
from protocol.peer import PairAlignment, Peer
from protocol.state import JobState, Phase
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
    whole,
    with_peer,
)

SUITE: Final = "X25519-ELL2"
LOOKAHEAD: Final = 4
OUTSTANDING_ITEMS: Final = 2**18
"""Own items that are listed and not answered yet, at most: 8 MiB of points, half a window of bulk.

A chunk is consumed, and credit comes back, when its answer is computed, and an answer is bulk as well. If both parties
filled their windows with lists, neither could begin an answer.
"""


def start(state: JobState) -> Outcome:
    """Begin: mask all own identifiers, one task a chunk, for each partner under a scalar of its own."""
    effects: list[AnyEffect] = []
    for peer in pairs.pairs(state):
        state, more = _mask(state, peer)
        effects += more
    effects.append(progress(state, "align", total=state.own_rows))
    return change(state, phase=Phase.ALIGNING), tuple(effects)


def _mask(state: JobState, peer: Peer) -> Outcome:
    contract = state.alignment_terms
    chunks = pairs.own_chunks(state)
    assert state.snapshot is not None
    effects = tuple(
        compute(
            task_name(state, "align.mask", peer, chunk),
            "align.mask",
            {
                "first": chunk * contract.align_chunk_items,
                "items": contract.align_chunk_items,
                "schema": contract.identifier_schema,
                "snapshot": state.snapshot.sha256,
                "role": state.role,
            },
            (state.snapshot,),
            partner=peer.name,
        )
        for chunk in range(chunks)
    )
    return with_peer(state, change(peer, align=PairAlignment(masked=(None,) * chunks))), effects


def masked(state: JobState, event: Computed) -> Outcome:
    """A chunk is masked; when all are, sort them."""
    peer = peer_of_task(state, event.task)
    align = change(peer.align, masked=put(peer.align.masked, chunk_of(event.task), event.blobs[0]))
    state = pairs.aligned(state, peer, align)
    if not whole(align.masked, len(align.masked)):
        return state, ()
    name = task_name(state, "align.sort", peer)
    return state, (compute(name, "align.sort", {}, align.masked, partner=peer.name),)


def sorted_(state: JobState, event: Computed) -> Outcome:
    """The masked list is sorted and committed to: say so to the partner."""
    peer = peer_of_task(state, event.task)
    align = change(
        peer.align,
        sorted_list=event.blobs[0],
        order=event.blobs[1],
        commitment=output_of(event.output)["commitment"],
    )
    dropped = tuple(Release(body=ref) for ref in align.masked if ref is not None)
    align = change(align, masked=())
    state = pairs.aligned(state, peer, align)
    opening = Send(message=_opening(state, align), recipient=peer.name)
    if is_business(state):
        return state, (*dropped, opening)
    if align.partner_count < 0:
        return state, (*dropped, progress(state, "align", waits_for=peer.name))
    state, effects = _stream(state, peer.name)
    return state, (*dropped, opening, *effects)


def opened(state: JobState, message: schemas.AlignPropose | schemas.AlignAccept, sender: str) -> Outcome:
    """The partner named the size of its list and committed to it."""
    contract, peer = state.alignment_terms, state.peer(sender)
    expect(peer.align.partner_count < 0, "align_repeated", f"{peer.name} opened the alignment twice")
    expect(
        state.agreed or not state.several or is_business(state),
        "align_early",
        f"{peer.name} opened the alignment before it said that all parties have agreed",
    )
    expect(message.suite == SUITE, "align_suite", f"{peer.name} offers {message.suite}, this party {SUITE}")
    expect(
        message.chunk_items == contract.align_chunk_items,
        "align_chunks",
        f"{peer.name} cuts its list into {message.chunk_items}, the contract says {contract.align_chunk_items}",
    )
    expect(
        message.count == peer.rows,
        "align_count",
        f"{peer.name} announced {peer.rows} rows and lists {message.count}",
    )
    expect(
        message.count <= contract.psi_quota,
        "psi_quota",
        f"{peer.name} lists {message.count} identifiers, the contract's quota is {contract.psi_quota}",
    )
    expect(
        message.schema_digest == _schema_digest(state),
        "align_schema",
        f"{peer.name} normalises identifiers by another schema than {contract.identifier_schema}",
    )
    align = change(
        peer.align,
        partner_count=message.count,
        partner_commitment=message.commitment,
        partner_chunks=chunk_count(message.count, contract.align_chunk_items),
    )
    state = pairs.aligned(state, peer, align)
    if align.sorted_list is None:
        return state, ()
    state, effects = _stream(state, peer.name)
    if is_business(state):
        return state, effects
    return state, (Send(message=_opening(state, align), recipient=peer.name), *effects)


def _schema_digest(state: JobState) -> bytes:
    return hashlib.sha256(b"warren identifier schema\x00" + state.alignment_terms.identifier_schema.encode()).digest()


def _opening(state: JobState, align: PairAlignment) -> schemas.AlignPropose | schemas.AlignAccept:
    kind = schemas.AlignPropose if is_business(state) else schemas.AlignAccept
    return kind(
        suite=SUITE,
        count=state.own_rows,
        chunk_items=state.alignment_terms.align_chunk_items,
        schema_digest=_schema_digest(state),
        commitment=align.commitment,
    )


def _stream(state: JobState, name: str, count: int = LOOKAHEAD) -> Outcome:
    """Seal the next `count` chunks of the own list."""
    state, effects = _list_more(state, name, count)
    next_state, more = _echo_next(state, name)
    return next_state, (*effects, *more)


def _outstanding_max(state: JobState) -> int:
    """Own chunks that may wait for their answers: see OUTSTANDING_ITEMS."""
    if state.several and not is_business(state):
        return pairs.own_chunks(state)  # the business answers none of several providers, and so none of them waits
    return max(LOOKAHEAD, OUTSTANDING_ITEMS // state.alignment_terms.align_chunk_items)


def _list_more(state: JobState, name: str, count: int) -> Outcome:
    """Seal up to `count` chunks more, as far as the partner's answers have come."""
    peer, chunks = state.peer(name), pairs.own_chunks(state)
    align = peer.align
    assert align.sorted_list is not None
    last = min(chunks, align.lists_made + count, align.echoes_received + _outstanding_max(state))
    effects = tuple(
        compute(
            task_name(state, "align.list", peer, chunk),
            "align.list",
            {"chunk": chunk, "chunks": chunks, "items": state.alignment_terms.align_chunk_items},
            (align.sorted_list,),
            sends_bulk=True,
            partner=name,
        )
        for chunk in range(align.lists_made, last)
    )
    return pairs.aligned(state, peer, change(align, lists_made=max(last, align.lists_made))), effects


def listed(state: JobState, event: Computed) -> Outcome:
    """A chunk of the own list is sealed: send it, seal the next."""
    peer = peer_of_task(state, event.task)
    queue, sends = send_in_order(
        "align.list", peer.align.lists, chunk_of(event.task), pairs.own_chunks(state), event.blobs[0], peer.name
    )
    state, effects = _stream(pairs.aligned(state, peer, change(peer.align, lists=queue)), peer.name, 1)
    return state, (*sends, *effects)


def list_received(state: JobState, event: BulkReceived) -> Outcome:
    """A chunk of the partner's list: answered in order, one at a time."""
    peer = sender_of(state, event)
    align = peer.align
    # Before the partner has named the size of its list no chunk is due: of 0 chunks, none is.
    expect_chunk(event, peer, "align_sequence", due=align.lists_received, chunks=align.partner_chunks)
    align = change(align, lists_received=align.lists_received + 1, lists_waiting=(*align.lists_waiting, event.body))
    return _echo_next(pairs.aligned(state, peer, align), peer.name)


def _echo_next(state: JobState, name: str) -> Outcome:
    peer = state.peer(name)
    align = peer.align
    if align.echoing is not None or not align.lists_waiting or align.sorted_list is None:
        return state, ()
    assert state.snapshot is not None
    body, *rest = align.lists_waiting
    chunk, items = len(align.points), state.alignment_terms.align_chunk_items
    # Of several providers none learns which rows it shares with the business alone: nothing is echoed to it.
    silent = state.several and is_business(state)
    function = "align.evaluate" if silent else "align.echo"
    task = compute(
        task_name(state, function, peer, chunk),
        function,
        {
            "chunk": chunk,
            "chunks": align.partner_chunks,
            "last": align.last_point,
            "snapshot": state.snapshot.sha256,
            "role": state.role,
            "items": min(items, align.partner_count - chunk * items),
            # The whole list is counted against the provider's quota before its first identifier is answered.
            **({} if chunk or is_business(state) else {"listed": align.partner_count}),
        },
        (body, align.sorted_list),
        sends_bulk=not silent,
        partner=name,
    )
    return pairs.aligned(state, peer, change(align, echoing=body, lists_waiting=tuple(rest))), (task,)


def echoed(state: JobState, event: Computed) -> Outcome:
    """A chunk of the partner's list is evaluated: answer it, take the next."""
    peer, chunk = peer_of_task(state, event.task), chunk_of(event.task)
    align = peer.align
    *sealed, points, tokens = event.blobs
    assert align.echoing is not None
    effects: tuple[AnyEffect, ...] = (
        *(
            SendBulk(kind="align.echo", chunk=chunk, chunks=align.partner_chunks, body=body, recipient=peer.name)
            for body in sealed
        ),
        Consumed(body=align.echoing, sender=peer.name),
    )
    align = change(
        align,
        echoing=None,
        last_point=output_of(event.output)["last"],
        points=(*align.points, points),
        partner_tokens=(*align.partner_tokens, tokens),
    )
    state, more = _echo_next(pairs.aligned(state, peer, align), peer.name)
    state, last = matching.match_when_ready(state)
    done = min(len(align.points) * state.alignment_terms.align_chunk_items, align.partner_count)
    return state, (*effects, *more, *last, progress(state, "align", done=done, total=align.partner_count))


def echo_received(state: JobState, event: BulkReceived) -> Outcome:
    """The partner's answer to a chunk of the own list."""
    peer, chunks = sender_of(state, event), pairs.own_chunks(state)
    align = peer.align
    expect_chunk(event, peer, "align_sequence", due=align.echoes_received, chunks=chunks)
    expect(
        event.chunk < align.lists.sent,
        "align_sequence",
        f"{peer.name} answers chunk {event.chunk} of a list of which it has {align.lists.sent} chunks",
    )
    items = state.alignment_terms.align_chunk_items
    task = compute(
        task_name(state, "align.open", peer, event.chunk),
        "align.open",
        {
            "chunk": event.chunk,
            "chunks": chunks,
            "items": min(items, state.own_rows - event.chunk * items),
        },
        (event.body,),
        partner=peer.name,
    )
    align = change(
        align,
        echoes_received=align.echoes_received + 1,
        echoes_opening=put(align.echoes_opening, event.chunk, event.body),
    )
    held_up = align.lists_made - event.chunk >= _outstanding_max(state)
    state, effects = _list_more(pairs.aligned(state, peer, align), peer.name, int(held_up))
    return state, (task, *effects)


def echo_opened(state: JobState, event: Computed) -> Outcome:
    """Tokens of a chunk of the own list."""
    peer, chunk = peer_of_task(state, event.task), chunk_of(event.task)
    body = peer.align.echoes_opening[chunk]
    assert body is not None
    align = change(peer.align, own_tokens=put(peer.align.own_tokens, chunk, event.blobs[0]))
    state, effects = matching.match_when_ready(pairs.aligned(state, peer, align))
    return state, (Consumed(body=body, sender=peer.name), *effects)
