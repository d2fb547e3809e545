"""What an iteration has in common at all parties: scores, cross terms, gradient, step."""

import hashlib
from typing import Any

import msgspec

from learning.arithmetic import masked
from learning.solvers import loop, loops
from messages import schemas
from protocol import closing, inferring, revising, room, stopping
from protocol.effects import AnyEffect, BlobRef, Computed, Release, RemoteProtocolError, Send
from protocol.facts import (
    budget_of,
    holders_besides,
    holds_share,
    job_arguments,
    mask_arguments,
    partner_chunks,
)
from protocol.peer import Peer, PeerRound
from protocol.samples import (
    own_arguments,
    peer_arguments,
    plan_of,
    rows_now,
    sample_arguments,
    sample_of,
    turn_of,
    updates,
)
from protocol.state import IterationFacts, JobState, Phase, Round
from protocol.steps import (
    Outcome,
    change,
    compute,
    expect,
    fail,
    output_of,
    peer_of_task,
    progress,
    task_name,
    tell_all,
    waits_for,
    with_peer,
)


def start(state: JobState) -> Outcome:
    """Begin iteration 1: all weights are zero."""
    if state.iterations_max < max(1, len(state.terms_of.penalties)):
        return fail(
            state,
            "release_cap",
            f"the release caps leave too few iterations for {state.rows} aligned rows: use more rows, fewer columns, "
            "or let both parties accept the mark small_sample",
        )
    if stopping.wanted(state) and not state.parts.validation:
        return fail(state, "parts_empty", f"none of {state.align.count} common rows is a validation row to stop by")
    state = room.bounded(state)
    state = change(state, loop=loops.begin(plan_of(state)), turns_beside=state.terms_of.turns_beside)
    return score(state, ())


def score(state: JobState, combination: tuple[float, ...]) -> Outcome:
    """Begin an iteration: take the step, compute own scores."""
    features = state.features
    assert features.matrix is not None
    assert features.history is not None
    peers = tuple(change(peer, round=PeerRound()) for peer in state.peers)
    sample = sample_of(state)
    after = Round(sample=sample)
    state = change(state, phase=Phase.SCORING, iteration=state.iteration + 1, round=after, peers=peers)
    task = compute(
        f"score/{state.iteration}",
        "score",
        {
            "iteration": state.iteration,
            "combination": combination,
            "role": state.role,
            "job": job_arguments(state),
            **({"rows": (sample.first, sample.rows)} if sample.rows else {}),
            **({"classes": sample.classes} if sample.classes else {}),
        },
        (features.matrix, features.history),
    )
    return state, (task, progress(state, "train", total=rows_now(state)))


def took_step(state: JobState, event: Computed) -> Outcome:
    """The weights of this iteration and their scores are stored."""
    old = state.features.history
    assert old is not None
    state = change(
        state,
        features=change(state.features, history=event.blobs[0]),
        round=change(state.round, scored=True, scores=event.blobs[1]),
    )
    return state, (Release(body=old),)


def feature_blobs(state: JobState, peer: Peer, first_row: int, rows: int) -> tuple[tuple[BlobRef, ...], int]:
    """A partner's encrypted feature chunks that cover rows of the iteration, and the first row of the first of them.

    `first_row` is counted within the iteration, whose rows may go on at the first one after the last one.
    """
    start = (state.round.sample.first + first_row) % state.rows
    per_chunk, chunks = partner_chunks(state, peer)
    first, last = start // per_chunk, (start + rows - 1) // per_chunk
    covering = [*range(first, min(last + 1, chunks))]
    if start + rows > state.rows:
        covering += range((start + rows - state.rows - 1) // per_chunk + 1)
    blobs = tuple(ref for chunk in covering if (ref := peer.features.encrypted[chunk]) is not None)
    return blobs, first * per_chunk


def cross_inputs(state: JobState, first_row: int, rows: int) -> tuple[dict[str, object], tuple[BlobRef, ...]]:
    """What a task that raises encrypted features to a residual share needs: (arguments, input blobs).

    `others`: the parties whose features are raised (all but this one, and of them all that update columns), and how
    many of the blobs are each one's.
    """
    blobs: tuple[BlobRef, ...] = ()
    others: list[dict[str, object]] = []
    for peer in state.peers:
        found, feature_row = feature_blobs(state, peer, first_row, rows) if updates(state, peer.name) else ((), 0)
        blobs += found
        other = {"job": job_arguments(state, peer), "blobs": len(found), "feature_row": feature_row}
        others.append({**other, **peer_arguments(state, peer)})
    return {"others": others, **sample_arguments(state)}, blobs


def accumulate(state: JobState, output: dict[str, Any]) -> JobState:
    """Add a chunk's part to the cross terms and to the own local sums.

    The products modulo N^2 commute, so the bytes do not depend on the order in which tasks end.
    """
    crosses = output["crosses"] if state.several else {state.partner: output["cross"]}
    for name, part in crosses.items():
        peer = state.peer(name)
        modulus = int.from_bytes(peer.features.modulus, "little")
        product = multiply(peer.round.cross_product, part, modulus * modulus, state.terms_of.key_bits // 4)
        state = with_peer(state, change(peer, round=change(peer.round, cross_product=product)))
    current = state.round
    sums = [int.from_bytes(part, "little", signed=True) for part in output["local"]]
    if current.local_sums:
        before = (int.from_bytes(part, "little", signed=True) for part in current.local_sums)
        sums = [a + b for a, b in zip(before, sums, strict=True)]
    size = (budget_of(state).share_bits + 64 + state.rows.bit_length()) // 8 + 1
    local = tuple(value.to_bytes(size, "little", signed=True) for value in sums)
    return change(state, round=change(current, evaluated=current.evaluated + 1, local_sums=local))


def multiply(left: bytes, right: bytes, modulus: int, size: int) -> bytes:
    """Ciphertext by ciphertext, the product of two rows of ciphertexts of `size` bytes."""
    if not left:
        return right
    parts = (
        int.from_bytes(left[i : i + size], "little") * int.from_bytes(right[i : i + size], "little") % modulus
        for i in range(0, len(right), size)
    )
    return b"".join(part.to_bytes(size, "little") for part in parts)


def close_cross(state: JobState) -> Outcome:
    """All chunks are in: window and re-randomise the cross terms of parties whose columns are updated.

    Who holds no share has none to close.
    """
    current, rows = state.round, rows_now(state)
    tasks = tuple(
        compute(
            task_name(state, "cross.close", peer, state.iteration),
            "cross.close",
            {
                "iteration": state.iteration,
                "product": peer.round.cross_product,
                "job": job_arguments(state, peer),
                **peer_arguments(state, peer),
            },
            partner=peer.name,
        )
        for peer in state.peers
        if holds_share(state) and updates(state, peer.name)
    )
    dropped: tuple[AnyEffect, ...] = () if current.scores is None else (Release(body=current.scores),)
    state = change(state, phase=Phase.CROSSING, round=change(current, scores=None))
    waiting = waits_for([holder.name for holder in holders_besides(state)])
    said = progress(state, "train", done=rows, total=rows, waits_for=waiting)
    if tasks:
        return state, (*dropped, *tasks, said)
    state, effects = _differentiate_when_ready(state)
    return state, (*dropped, *effects, said)


def cross_closed(state: JobState, event: Computed) -> Outcome:
    """The cross term for a partner is ready to leave."""
    peer = peer_of_task(state, event.task)
    send = Send(
        message=schemas.CrossTerm(iteration=state.iteration, ciphertexts=output_of(event.output)["ciphertexts"]),
        recipient=peer.name,
    )
    closed = change(peer.round, closed=True, cross_product=b"")
    state, effects = _differentiate_when_ready(with_peer(state, change(peer, round=closed)))
    return state, (send, *effects)


def cross_received(state: JobState, message: schemas.CrossTerm, sender: str) -> Outcome:
    """A share holder's part of the own gradient."""
    peer = state.peer(sender)
    check_iteration(state, "cross.term", message.iteration, peer)
    expect(
        not peer.round.cross_term and updates(state, state.me),
        "cross_repeated",
        f"{peer.name} sent two cross terms for one iteration, or one for columns that it does not update",
    )
    state = with_peer(state, change(peer, round=change(peer.round, cross_term=message.ciphertexts)))
    return _differentiate_when_ready(state) if state.phase is Phase.CROSSING else (state, ())


def check_iteration(state: JobState, kind: str, iteration: int, sender: Peer) -> None:
    """A message of another iteration ends the job."""
    expect(
        iteration == state.iteration,
        "iteration_wrong",
        f"{kind} of iteration {iteration} from {sender.name} in iteration {state.iteration}",
    )


def _differentiate_when_ready(state: JobState) -> Outcome:
    current, features, holders = state.round, state.features, holders_besides(state)
    owing = [peer for peer in state.peers if updates(state, peer.name)]
    closed = not holds_share(state) or all(peer.round.closed for peer in owing)
    told = not updates(state, state.me) or all(holder.round.cross_term for holder in holders)
    if not closed or current.differentiating or not told:
        return state, ()
    assert features.history is not None
    if state.inference is not None:
        return inferring.differentiate(state)
    arguments: dict[str, object] = {
        "iteration": state.iteration,
        "ciphertexts": holders[0].round.cross_term,
        "local": current.local_sums,
        "job": job_arguments(state, holders[0]),
        **own_arguments(state),
    }
    if len(holders) > 1:
        arguments["second"] = {"from": holders[1].name, "ciphertexts": holders[1].round.cross_term}
    if state.several:
        arguments["masks"] = mask_arguments(state)
    task = compute(
        f"gradient/{state.iteration}",
        "gradient",
        arguments,
        (features.history, *held_of(state)),
        partner=holders[0].name,
    )
    return change(state, round=change(current, differentiating=True)), (task,)


def held_of(state: JobState) -> tuple[BlobRef, ...]:
    """What a check needs of the fold's check before."""
    turn = turn_of(state)
    needed = turn.act == "check" and turn.penalty != state.terms_of.penalties[0]
    return (state.held,) if needed and state.held is not None else ()


def differentiated(state: JobState, event: Computed) -> Outcome:
    """The own gradient is in the history: tell the partners the new row of the Gram matrix."""
    output, old = output_of(event.output), state.features.history
    assert old is not None
    largest = output["largest"]
    message: schemas.StepMasked | schemas.StepProducts
    if state.several:
        row = tuple(output["masked"])
        current = change(state.round, masked=row, largest=largest)
        message = schemas.StepMasked(iteration=state.iteration, row=list(row), largest=largest)
    else:
        products = tuple(output["products"])
        current = change(state.round, products=products, largest=largest)
        message = schemas.StepProducts(iteration=state.iteration, products=list(products), largest=largest)
    state = change(state, phase=Phase.STEPPING, round=current)
    if turn_of(state).act == "check":
        # A check leaves the history as it is, and what the next one needs of the fold.
        freed, held = state.held, event.blobs[0]
        state = change(state, held=held)
    else:
        freed, state = old, change(state, features=change(state.features, history=event.blobs[0]))
    state, effects = _advance_when_ready(state)
    released = () if freed is None else (Release(body=freed),)
    return state, (*released, *tell_all(state, message), *effects)


def products_received(state: JobState, message: schemas.StepProducts, sender: str) -> Outcome:
    """The partner's row of its Gram matrix."""
    peer = state.peer(sender)
    check_iteration(state, "step.products", message.iteration, peer)
    expect(not state.several, "unexpected_message", f"step.products from {peer.name} in a job of several providers")
    return _row_received(state, peer, change(peer.round, products=tuple(message.products), largest=message.largest))


def masked_received(state: JobState, message: schemas.StepMasked, sender: str) -> Outcome:
    """A partner's row of its Gram matrix, under masks that cancel in the sum of all."""
    peer = state.peer(sender)
    expect(state.several, "unexpected_message", f"step.masked from {peer.name} in a job of one provider")
    if revising.ahead(state, peer):
        return revising.row_kept(state, peer, message), ()
    check_iteration(state, "step.masked", message.iteration, peer)
    return _row_received(state, peer, change(peer.round, masked=tuple(message.row), largest=message.largest))


def _row_received(state: JobState, peer: Peer, after: PeerRound) -> Outcome:
    expect(
        peer.round.products is None and peer.round.masked is None,
        "products_repeated",
        f"{peer.name} sent two rows for iteration {state.iteration}",
    )
    row = after.products if after.masked is None else after.masked
    assert row is not None
    expect(
        len(row) == turn_of(state).products,
        "products_wrong",
        f"{len(row)} products in iteration {state.iteration} from {peer.name}",
    )
    state = with_peer(state, change(peer, round=after))
    return _advance_when_ready(state) if state.phase is Phase.STEPPING else (state, ())


def _advance_when_ready(state: JobState) -> Outcome:
    missing = [peer.name for peer in state.peers if peer.round.products is None and peer.round.masked is None]
    if missing:
        return state, (progress(state, "train", waits_for=waits_for(missing)),)
    return _advance(state)


def _entries(state: JobState) -> list[tuple[Any, float]]:
    """Every party's row and largest entry, in the contract's order."""
    found: dict[str, tuple[Any, float]] = {
        peer.name: (peer.round.masked if state.several else peer.round.products, peer.round.largest)
        for peer in state.peers
    }
    found[state.me] = (state.round.masked if state.several else state.round.products, state.round.largest)
    return [found[name] for name in state.terms_of.parties]


def _advance(state: JobState) -> Outcome:
    current, entries = state.round, _entries(state)
    rows = [row for row, _ in entries]
    row = masked.unmasked(rows) if state.several else tuple(b + p for b, p in zip(*rows, strict=True))
    largest = max(size for _, size in entries)
    last = state.iteration >= state.iterations_max or room.full(state)
    try:
        after, step = loops.advance(plan_of(state), state.loop, row, largest, last=last)
        pauses = stopping.due(state, step)
        model = stopping.candidate(state, row, largest, step) if pauses else ()
    except loop.LoopError as error:
        who = waits_for(list(state.partners))
        raise RemoteProtocolError("products_wrong", f"step.products of {who}: {error}") from None
    agreement = hashlib.sha256(
        state.agreement + msgspec.msgpack.encode((state.iteration, *entries, step.combination))
    ).digest()
    fact = IterationFacts(
        iteration=state.iteration,
        largest_business=entries[0][1],
        largest_provider=max(size for _, size in entries[1:]),
        terms=current.terms,
        bound=current.bound,
        step=step.scale,
        rows=current.sample.rows,
    )
    state = change(
        state,
        loop=after,
        agreement=agreement,
        facts=(*state.facts, fact),
        converged=step.converged,
    )
    if pauses:
        return stopping.begin(state, model, step)
    return end(state, step.combination, step.reason) if step.stop else go_on(state, step.combination)


def go_on(state: JobState, combination: tuple[float, ...]) -> Outcome:
    """The step that follows an iteration is known: take it in the next one."""
    return revising.begin(state) if turn_of(state).act == "revise" else score(state, combination)


def end(state: JobState, combination: tuple[float, ...], reason: str) -> Outcome:
    """Training has ended with the target parameters that `combination` makes."""
    if state.terms_of.penalties:
        state = change(state, validation=msgspec.msgpack.encode(loops.validation_of(plan_of(state), state.loop)))
    if inferring.wanted(state):
        return inferring.start(state, combination, reason)
    held = () if state.held is None else (Release(body=state.held),)
    state = change(state, held=None, stop_reason=reason, combination=combination)
    state, effects = closing.close(state)
    return state, (*held, *effects)
