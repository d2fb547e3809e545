"""Alignment: both parties learn which of their rows the other has too (design: docs/alignment.md).

Data flow, the same at both parties: mask own identifiers chunk by chunk; sort; exchange sizes and commitments;
stream the sorted list; answer each chunk of the partner's list with tokens, in order; open the partner's
answers; match; compare results.
"""

import hashlib
from typing import Final

from messages import schemas
from messages.streams import chunk_count
from protocol import coding, dividing, inferring, scoring
from protocol.effects import AnyEffect, BulkReceived, Computed, Consumed, Release, Send, SendBulk
from protocol.state import SCORING_BUSINESS, SCORING_PROVIDER, Alignment, JobState, Phase
from protocol.steps import (
    Outcome,
    change,
    chunk_of,
    compute,
    expect,
    expect_chunk,
    is_business,
    output_of,
    progress,
    put,
    send_in_order,
    whole,
)

SUITE: Final = "X25519-ELL2"
LOOKAHEAD: Final = 4
SCORING_ROLES: Final = frozenset({SCORING_BUSINESS, SCORING_PROVIDER})


def start(state: JobState) -> Outcome:
    """Begin: mask all own identifiers, one task a chunk."""
    contract = state.alignment_terms
    chunks = chunk_count(state.own_rows, contract.align_chunk_items)
    assert state.snapshot is not None
    effects: list[AnyEffect] = [
        compute(
            f"align.mask/{chunk}",
            "align.mask",
            {
                "first": chunk * contract.align_chunk_items,
                "items": contract.align_chunk_items,
                "schema": contract.identifier_schema,
                "snapshot": state.snapshot.sha256,
                "role": state.role,
            },
            (state.snapshot,),
        )
        for chunk in range(chunks)
    ]
    align = Alignment(masked=(None,) * chunks)
    effects.append(progress(state, "align", total=state.own_rows))
    return change(state, phase=Phase.ALIGNING, align=align), tuple(effects)


def masked(state: JobState, event: Computed) -> Outcome:
    """A chunk is masked; when all are, sort them."""
    align = change(state.align, masked=put(state.align.masked, chunk_of(event.task), event.blobs[0]))
    state = change(state, align=align)
    if not whole(align.masked, len(align.masked)):
        return state, ()
    return state, (compute("align.sort", "align.sort", {}, align.masked),)


def sorted_(state: JobState, event: Computed) -> Outcome:
    """The masked list is sorted and committed to: say so to the partner."""
    align = change(
        state.align,
        sorted_list=event.blobs[0],
        order=event.blobs[1],
        commitment=output_of(event.output)["commitment"],
    )
    dropped = tuple(Release(body=ref) for ref in align.masked if ref is not None)
    state = change(state, align=change(align, masked=()))
    if is_business(state):
        return state, (*dropped, Send(message=_opening(state)))
    if state.align.partner_count < 0:
        return state, (*dropped, progress(state, "align", waits_for=state.partner))
    state, effects = _stream(state)
    return state, (*dropped, Send(message=_opening(state)), *effects)


def opened(state: JobState, message: schemas.AlignPropose | schemas.AlignAccept) -> Outcome:
    """The partner named the size of its list and committed to it."""
    contract = state.alignment_terms
    expect(state.align.partner_count < 0, "align_repeated", f"{state.partner} opened the alignment twice")
    expect(message.suite == SUITE, "align_suite", f"{state.partner} offers {message.suite}, this party {SUITE}")
    expect(
        message.chunk_items == contract.align_chunk_items,
        "align_chunks",
        f"{state.partner} cuts its list into {message.chunk_items}, the contract says {contract.align_chunk_items}",
    )
    expect(
        message.count == state.partner_rows,
        "align_count",
        f"{state.partner} announced {state.partner_rows} rows and lists {message.count}",
    )
    expect(
        message.count <= contract.psi_quota,
        "psi_quota",
        f"{state.partner} lists {message.count} identifiers, the contract's quota is {contract.psi_quota}",
    )
    expect(
        message.schema_digest == _schema_digest(state),
        "align_schema",
        f"{state.partner} normalises identifiers by another schema than {contract.identifier_schema}",
    )
    chunks = chunk_count(message.count, contract.align_chunk_items)
    align = change(
        state.align,
        partner_count=message.count,
        partner_commitment=message.commitment,
        partner_chunks=chunks,
    )
    state = change(state, align=align)
    if state.align.sorted_list is None:
        return state, ()
    state, effects = _stream(state)
    if is_business(state):
        return state, effects
    return state, (Send(message=_opening(state)), *effects)


def _schema_digest(state: JobState) -> bytes:
    return hashlib.sha256(b"warren identifier schema\x00" + state.alignment_terms.identifier_schema.encode()).digest()


def _opening(state: JobState) -> schemas.AlignPropose | schemas.AlignAccept:
    kind = schemas.AlignPropose if is_business(state) else schemas.AlignAccept
    return kind(
        suite=SUITE,
        count=state.own_rows,
        chunk_items=state.alignment_terms.align_chunk_items,
        schema_digest=_schema_digest(state),
        commitment=state.align.commitment,
    )


def _own_chunks(state: JobState) -> int:
    return chunk_count(state.own_rows, state.alignment_terms.align_chunk_items)


def _stream(state: JobState, count: int = LOOKAHEAD) -> Outcome:
    """Seal the next `count` chunks of the own list."""
    align, chunks = state.align, _own_chunks(state)
    assert align.sorted_list is not None
    last = min(chunks, align.lists_made + count)
    effects = tuple(
        compute(
            f"align.list/{chunk}",
            "align.list",
            {"chunk": chunk, "chunks": chunks, "items": state.alignment_terms.align_chunk_items},
            (align.sorted_list,),
            sends_bulk=True,
        )
        for chunk in range(align.lists_made, last)
    )
    state = change(state, align=change(align, lists_made=last))
    next_state, more = _echo_next(state)
    return next_state, (*effects, *more)


def listed(state: JobState, event: Computed) -> Outcome:
    """A chunk of the own list is sealed: send it, seal the next."""
    queue, sends = send_in_order(
        "align.list", state.align.lists, chunk_of(event.task), _own_chunks(state), event.blobs[0]
    )
    state, effects = _stream(change(state, align=change(state.align, lists=queue)), 1)
    return state, (*sends, *effects)


def list_received(state: JobState, event: BulkReceived) -> Outcome:
    """A chunk of the partner's list: answered in order, one at a time."""
    align = state.align
    # Before the partner has named the size of its list no chunk is due: of 0 chunks, none is.
    expect_chunk(state, event, "align_sequence", due=align.lists_received, chunks=align.partner_chunks)
    align = change(align, lists_received=align.lists_received + 1, lists_waiting=(*align.lists_waiting, event.body))
    return _echo_next(change(state, align=align))


def _echo_next(state: JobState) -> Outcome:
    align = state.align
    if align.echoing is not None or not align.lists_waiting or align.sorted_list is None:
        return state, ()
    assert state.snapshot is not None
    body, *rest = align.lists_waiting
    chunk = len(align.points)
    task = compute(
        f"align.echo/{chunk}",
        "align.echo",
        {
            "chunk": chunk,
            "chunks": align.partner_chunks,
            "last": align.last_point,
            "snapshot": state.snapshot.sha256,
            "role": state.role,
            "items": min(
                state.alignment_terms.align_chunk_items,
                align.partner_count - chunk * state.alignment_terms.align_chunk_items,
            ),
        },
        (body, align.sorted_list),
        sends_bulk=True,
    )
    return change(state, align=change(align, echoing=body, lists_waiting=tuple(rest))), (task,)


def echoed(state: JobState, event: Computed) -> Outcome:
    """A chunk of the partner's list is evaluated: answer it, take the next."""
    align, chunk = state.align, chunk_of(event.task)
    sealed, points, tokens = event.blobs
    assert align.echoing is not None
    effects: tuple[AnyEffect, ...] = (
        SendBulk(kind="align.echo", chunk=chunk, chunks=align.partner_chunks, body=sealed),
        Consumed(body=align.echoing),
    )
    align = change(
        align,
        echoing=None,
        last_point=output_of(event.output)["last"],
        points=(*align.points, points),
        partner_tokens=(*align.partner_tokens, tokens),
    )
    state, more = _echo_next(change(state, align=align))
    state, last = _match_when_ready(state)
    done = min(len(align.points) * state.alignment_terms.align_chunk_items, align.partner_count)
    return state, (*effects, *more, *last, progress(state, "align", done=done, total=align.partner_count))


def echo_received(state: JobState, event: BulkReceived) -> Outcome:
    """The partner's answer to a chunk of the own list."""
    align, chunks = state.align, _own_chunks(state)
    expect_chunk(state, event, "align_sequence", due=align.echoes_received, chunks=chunks)
    expect(
        event.chunk < align.lists.sent,
        "align_sequence",
        f"{state.partner} answers chunk {event.chunk} of a list of which it has {align.lists.sent} chunks",
    )
    items = state.alignment_terms.align_chunk_items
    task = compute(
        f"align.open/{event.chunk}",
        "align.open",
        {
            "chunk": event.chunk,
            "chunks": chunks,
            "items": min(items, state.own_rows - event.chunk * items),
        },
        (event.body,),
    )
    align = change(
        align,
        echoes_received=align.echoes_received + 1,
        echoes_opening=put(align.echoes_opening, event.chunk, event.body),
    )
    return change(state, align=align), (task,)


def echo_opened(state: JobState, event: Computed) -> Outcome:
    """Tokens of a chunk of the own list."""
    align, chunk = state.align, chunk_of(event.task)
    body = align.echoes_opening[chunk]
    assert body is not None
    align = change(align, own_tokens=put(align.own_tokens, chunk, event.blobs[0]))
    state, effects = _match_when_ready(change(state, align=align))
    return state, (Consumed(body=body), *effects)


def seed_received(state: JobState, message: schemas.PartsSeed) -> Outcome:
    """The partner's seed of the parts: the common rows cannot be divided before."""
    state, shown = dividing.seed_received(state, message)
    state, effects = _match_when_ready(state)
    return state, (*shown, *effects)


def _match_when_ready(state: JobState) -> Outcome:
    align = state.align
    ready = len(align.partner_tokens) == align.partner_chunks and whole(align.own_tokens, _own_chunks(state))
    if not ready or align.matching or not dividing.agreed(state):
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
    return change(state, align=change(align, matching=True)), (task,)


def _release_arguments(state: JobState) -> dict[str, object]:
    """What this party's own rules for releases need to know: of a training job, or of a scoring job."""
    if state.role in SCORING_ROLES:
        return scoring.match_arguments(state)
    contract = state.terms_of
    return {
        "own_columns": state.own_columns,
        "partner_columns": state.partner_columns,
        "max_iterations": contract.max_iterations,
        "small_sample": contract.small_sample,
        **dividing.arguments(state),
        **inferring.reserved(state),
    }


def matched(state: JobState, event: Computed) -> Outcome:
    """The own result: tell the partner, compare when its result is here."""
    output, align = output_of(event.output), state.align
    state = dividing.divided(state, output)
    used = (align.sorted_list, align.order, *align.points, *align.partner_tokens, *align.own_tokens)
    align = Alignment(
        partner_result=align.partner_result,
        rows=event.blobs[0],
        count=output["count"],
        digest=output["digest"],
        iterations_allowed=output["iterations_allowed"],
    )
    send = Send(
        message=schemas.AlignResult(count=align.count, digest=align.digest, iterations_allowed=align.iterations_allowed)
    )
    dropped = tuple(Release(body=ref) for ref in used if ref is not None)
    state, effects = _compare(change(state, align=align))
    return state, (send, *dropped, *effects)


def result_received(state: JobState, message: schemas.AlignResult) -> Outcome:
    """The partner's result."""
    expect(state.align.partner_result is None, "align_repeated", f"{state.partner} sent its result twice")
    result = (message.count, message.digest, message.iterations_allowed)
    return _compare(change(state, align=change(state.align, partner_result=result)))


def _compare(state: JobState) -> Outcome:
    align = state.align
    if align.count < 0:
        return state, ()
    if align.partner_result is None:
        return state, (progress(state, "align", waits_for=state.partner),)
    count, digest, allowed = align.partner_result
    expect(
        (count, digest) == (align.count, align.digest),
        "align_differs",
        f"the intersections differ: {align.count} rows here, {count} at {state.partner}",
    )
    if state.role in SCORING_ROLES:
        return scoring.aligned(change(state, rows=count))
    iterations = min(state.terms_of.max_iterations, align.iterations_allowed, allowed)
    rows = sum(state.parts.blocks) or align.count
    return coding.start(change(state, rows=rows, iterations_max=iterations))
