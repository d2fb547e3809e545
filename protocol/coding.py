"""Feature codes, keys and encrypted features: once per job, the same at all parties.

Encrypted features go to those who hold shares of the residuals: the business and the last provider.
"""

from typing import Final

from messages import codec, schemas
from protocol import iterating
from protocol.effects import AnyEffect, BulkReceived, Computed, Consumed
from protocol.facts import (
    budget_of,
    codes_of,
    holders_besides,
    holds_share,
    job_arguments,
    own_chunks,
    partner_chunks,
    partner_columns,
)
from protocol.peer import Peer
from protocol.state import Features, JobState, Phase
from protocol.steps import (
    Outcome,
    change,
    chunk_of,
    compute,
    expect,
    expect_chunk,
    output_of,
    peer_of_task,
    progress,
    put,
    send_in_order,
    sender_of,
    task_name,
    tell_all,
    whole,
    with_peer,
)

LOOKAHEAD: Final = 4


def start(state: JobState) -> Outcome:
    """Begin: quantise the aligned rows, make the Paillier key pair of the job."""
    contract = state.terms_of
    assert state.snapshot is not None
    assert state.align.rows is not None
    quantise = compute(
        "features.quantise",
        "features.quantise",
        {
            "role": state.role,
            "task": contract.task,
            "l2": contract.l2,
            "small_sample": contract.small_sample,
            "partner_columns": partner_columns(state),
            "label_bound": contract.label_bound,
            "release_noise": contract.release_noise,
            **({"blocks": state.parts.blocks} if state.parts.blocks else {}),
            **contract.family_arguments,
        },
        (state.snapshot, state.align.rows),
    )
    keys = compute(
        "keys.generate",
        "keys.generate",
        {"bits": contract.key_bits, "insecure": "insecure" in contract.marks, "masks": state.several},
    )
    state = change(state, phase=Phase.CODING, features=Features())
    effects: list[AnyEffect] = [quantise, keys, progress(state, "encrypt_features", total=state.rows)]
    for peer in state.peers:
        # Codes of a fellow provider that was told the common rows before this party was.
        if peer.features.codes:
            state, more = _check_codes(state, peer, codec.decode(peer.features.codes))
            effects += more
    return state, tuple(effects)


def quantised(state: JobState, event: Computed) -> Outcome:
    """The own columns are integers now. What a preparation learned comes last, if there is one."""
    blobs, preparation = event.blobs, None
    if output_of(event.output).get("prepared"):
        blobs, preparation = blobs[:-1], blobs[-1]
    features = change(
        state.features,
        matrix=blobs[0],
        history=blobs[1],
        label=blobs[2] if len(blobs) > 2 else None,
        preparation=preparation,
    )
    return _say_codes(change(state, features=features))


def generated(state: JobState, event: Computed) -> Outcome:
    """The own key pair is there; the private half never leaves the secrets directory."""
    output = output_of(event.output)
    features = change(
        state.features, modulus=output["modulus"], proof=output["proof"], mask_key=output.get("mask_key", b"")
    )
    return _say_codes(change(state, features=features))


def _say_codes(state: JobState) -> Outcome:
    features = state.features
    if features.matrix is None or not features.modulus:
        return state, ()
    budget = budget_of(state)
    codes = schemas.FeaturesCodes(
        codes=codes_of(state, state.me),
        modulus=features.modulus,
        proof=features.proof,
        slot_bits=budget.feature_slot,
        columns_per_ciphertext=budget.columns_per_ciphertext,
    )
    sends = tell_all(state, codes)
    if state.several:
        sends = (*sends, *tell_all(state, schemas.MaskKey(public=features.mask_key)))
    state, effects = _begin_when_ready(state)
    return state, (*sends, *effects)


def codes_received(state: JobState, message: schemas.FeaturesCodes, sender: str) -> Outcome:
    """The partner's codes and public key."""
    peer = state.peer(sender)
    expect(
        not peer.features.modulus and not peer.features.codes,
        "codes_repeated",
        f"{peer.name} sent its codes twice",
    )
    if state.phase is Phase.ALIGNING:
        early = peer.name != state.terms_of.business and state.agreed
        expect(early, "unexpected_message", f"features.codes from {peer.name} before the rows are aligned")
        return with_peer(state, change(peer, features=change(peer.features, codes=codec.encode(message)))), ()
    return _check_codes(state, peer, message)


def _check_codes(state: JobState, peer: Peer, message: schemas.Message) -> Outcome:
    assert isinstance(message, schemas.FeaturesCodes)
    expect(
        message.codes == codes_of(state, peer.name),
        "codes_wrong",
        f"{peer.name} numbers {len(message.codes)} features other than the feature code set does",
    )
    budget = budget_of(state)
    expect(
        (message.slot_bits, message.columns_per_ciphertext) == (budget.feature_slot, budget.columns_per_ciphertext),
        "budget_differs",
        f"{peer.name} derives other slot widths: {message.slot_bits} bits, this party {budget.feature_slot}",
    )
    contract = state.terms_of
    verify = compute(
        "keys.verify" if not state.several else f"keys.verify/{peer.name}",
        "keys.verify",
        {
            "modulus": message.modulus,
            "proof": message.proof,
            "bits": contract.key_bits,
            "insecure": "insecure" in contract.marks,
        },
        partner=peer.name,
    )
    return with_peer(state, change(peer, features=change(peer.features, modulus=message.modulus, codes=b""))), (verify,)


def mask_key_received(state: JobState, message: schemas.MaskKey, sender: str) -> Outcome:
    """The partner's half of the masks that cancel between both."""
    peer = state.peer(sender)
    fellow = peer.name != state.terms_of.business
    expect(
        state.phase is not Phase.ALIGNING or (fellow and state.agreed),
        "unexpected_message",
        f"mask.key from {peer.name} before the rows are aligned",
    )
    expect(not peer.features.mask_key, "mask_key_repeated", f"{peer.name} sent two mask keys")
    others = [one.features.mask_key for one in state.peers]
    expect(
        message.public not in (state.features.mask_key, *others),
        "mask_key_wrong",
        f"{peer.name} sent the mask key of another party",
    )
    state = with_peer(state, change(peer, features=change(peer.features, mask_key=message.public)))
    return (state, ()) if state.phase is Phase.ALIGNING else _begin_when_ready(state)


def verified(state: JobState, event: Computed) -> Outcome:
    """The proof of a partner's modulus holds."""
    peer = peer_of_task(state, event.task)
    return _begin_when_ready(with_peer(state, change(peer, features=change(peer.features, verified=True))))


def _begin_when_ready(state: JobState) -> Outcome:
    features, several = state.features, state.several
    keys = all(peer.features.verified and (peer.features.mask_key or not several) for peer in state.peers)
    if state.phase is not Phase.CODING or features.matrix is None or not features.modulus or not keys:
        return state, ()
    state = change(state, phase=Phase.ENCRYPTING)
    effects: list[AnyEffect] = []
    for holder in holders_besides(state):
        state, more = _encrypt(state, holder.name, LOOKAHEAD)
        effects += more
    for peer in state.peers:
        state, more = _open_waiting(state, peer.name)
        effects += more
    return state, tuple(effects)


def _encrypt(state: JobState, name: str, count: int) -> Outcome:
    """Encrypt and seal the next chunks of the own features for a share holder: the same ciphertexts for each."""
    peer = state.peer(name)
    rows, chunks = own_chunks(state)
    first, matrix = peer.features.chunks_made, state.features.matrix
    last = min(chunks, first + count)
    assert matrix is not None
    effects = tuple(
        compute(
            task_name(state, "features.encrypt", peer, chunk),
            "features.encrypt",
            {
                "chunk": chunk,
                "chunks": chunks,
                "first_row": chunk * rows,
                "rows": min(rows, state.rows - chunk * rows),
                "job": job_arguments(state, peer),
            },
            (matrix,),
            sends_bulk=True,
            partner=name,
        )
        for chunk in range(first, last)
    )
    return with_peer(state, change(peer, features=change(peer.features, chunks_made=last))), effects


def encrypted(state: JobState, event: Computed) -> Outcome:
    """A chunk of the own features is encrypted and sealed: send it."""
    rows, chunks = own_chunks(state)
    peer = peer_of_task(state, event.task)
    features = peer.features
    queue, sends = send_in_order(
        "features.encrypted", features.queue, chunk_of(event.task), chunks, event.blobs[0], peer.name
    )
    features = change(features, queue=queue, chunks_computed=features.chunks_computed + 1)
    state, effects = _encrypt(with_peer(state, change(peer, features=features)), peer.name, 1)
    done = min(state.rows, features.chunks_computed * rows)
    note = progress(state, "encrypt_features", done=done, total=state.rows)
    state, more = _iterate_when_ready(state)
    return state, (*sends, *effects, note, *more)


def received(state: JobState, event: BulkReceived) -> Outcome:
    """A chunk of the partner's encrypted features."""
    peer = sender_of(state, event)
    expect(holds_share(state), "unexpected_message", f"{peer.name} sent features to a party that holds no share")
    _, chunks = partner_chunks(state, peer)
    features = peer.features
    expect_chunk(event, peer, "features_sequence", due=features.received, chunks=chunks)
    features = change(features, received=features.received + 1, waiting=(*features.waiting, event.body))
    state = with_peer(state, change(peer, features=features))
    return _open_waiting(state, peer.name) if state.phase is Phase.ENCRYPTING else (state, ())


def _open_waiting(state: JobState, name: str) -> Outcome:
    peer = state.peer(name)
    features = peer.features
    rows, chunks = partner_chunks(state, peer)
    first = features.received - len(features.waiting)
    effects = tuple(
        compute(
            task_name(state, "features.open", peer, chunk),
            "features.open",
            {
                "chunk": chunk,
                "chunks": chunks,
                "first_row": chunk * rows,
                "rows": min(rows, state.rows - chunk * rows),
                "job": job_arguments(state, peer),
            },
            (body,),
            partner=name,
        )
        for chunk, body in enumerate(features.waiting, start=first)
    )
    opening = features.opening
    for chunk, body in enumerate(features.waiting, start=first):
        opening = put(opening, chunk, body)
    return with_peer(state, change(peer, features=change(features, waiting=(), opening=opening))), effects


def opened(state: JobState, event: Computed) -> Outcome:
    """A chunk of the partner's features is checked and stored."""
    peer, chunk = peer_of_task(state, event.task), chunk_of(event.task)
    features = peer.features
    body = features.opening[chunk]
    assert body is not None
    features = change(
        features,
        encrypted=put(features.encrypted, chunk, event.blobs[0]),
        opening=put(features.opening, chunk, None),
    )
    state, effects = _iterate_when_ready(with_peer(state, change(peer, features=features)))
    return state, (Consumed(body=body, sender=peer.name), *effects)


def _iterate_when_ready(state: JobState) -> Outcome:
    _, own = own_chunks(state)
    if any(holder.features.chunks_computed < own for holder in holders_besides(state)):
        return state, ()
    if holds_share(state):
        missing = [one for one in state.peers if not whole(one.features.encrypted, partner_chunks(state, one)[1])]
        if missing:
            return state, ()
    for peer in state.peers:
        state = with_peer(state, change(peer, features=change(peer.features, opening=())))
    return iterating.start(state)
