"""Feature codes, keys and encrypted features: once per job, the same at both parties."""

from typing import Final

from learning.codes import FeatureCodeSet
from messages import schemas
from protocol import iterating
from protocol.effects import AnyEffect, BulkReceived, Computed, Consumed, Send
from protocol.facts import (
    budget_of,
    columns_business,
    columns_provider,
    job_arguments,
    own_chunks,
    own_codes,
    partner_chunks,
)
from protocol.state import Features, JobState, Phase
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
            "partner_columns": state.partner_columns,
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
        {"bits": contract.key_bits, "insecure": "insecure" in contract.marks},
    )
    return (
        change(state, phase=Phase.CODING, features=Features()),
        (quantise, keys, progress(state, "encrypt_features", total=state.rows)),
    )


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
    features = change(state.features, modulus=output["modulus"], proof=output["proof"])
    return _say_codes(change(state, features=features))


def _say_codes(state: JobState) -> Outcome:
    features = state.features
    if features.matrix is None or not features.modulus:
        return state, ()
    budget = budget_of(state)
    send = Send(
        message=schemas.FeaturesCodes(
            codes=own_codes(state),
            modulus=features.modulus,
            proof=features.proof,
            slot_bits=budget.feature_slot,
            columns_per_ciphertext=budget.columns_per_ciphertext,
        )
    )
    state, effects = _begin_when_ready(state)
    return state, (send, *effects)


def codes_received(state: JobState, message: schemas.FeaturesCodes) -> Outcome:
    """The partner's codes and public key."""
    expect(not state.features.partner_modulus, "codes_repeated", f"{state.partner} sent its codes twice")
    codes = FeatureCodeSet(business=columns_business(state), provider=columns_provider(state))
    expected = codes.provider_codes if is_business(state) else codes.business_codes
    expect(
        message.codes == list(expected),
        "codes_wrong",
        f"{state.partner} numbers {len(message.codes)} features other than the feature code set does",
    )
    budget = budget_of(state)
    expect(
        (message.slot_bits, message.columns_per_ciphertext) == (budget.feature_slot, budget.columns_per_ciphertext),
        "budget_differs",
        f"{state.partner} derives other slot widths: {message.slot_bits} bits, this party {budget.feature_slot}",
    )
    contract = state.terms_of
    verify = compute(
        "keys.verify",
        "keys.verify",
        {
            "modulus": message.modulus,
            "proof": message.proof,
            "bits": contract.key_bits,
            "insecure": "insecure" in contract.marks,
        },
    )
    return change(state, features=change(state.features, partner_modulus=message.modulus)), (verify,)


def verified(state: JobState, event: Computed) -> Outcome:
    """The proof of the partner's modulus holds."""
    del event
    state = change(state, features=change(state.features, partner_verified=True))
    return _begin_when_ready(state)


def _begin_when_ready(state: JobState) -> Outcome:
    features = state.features
    if features.matrix is None or not features.modulus or not features.partner_verified:
        return state, ()
    state = change(state, phase=Phase.ENCRYPTING)
    state, effects = _encrypt(state, LOOKAHEAD)
    state, more = _open_waiting(state)
    return state, (*effects, *more)


def _encrypt(state: JobState, count: int) -> Outcome:
    features = state.features
    rows, chunks = own_chunks(state)
    last = min(chunks, features.chunks_made + count)
    assert features.matrix is not None
    effects = tuple(
        compute(
            f"features.encrypt/{chunk}",
            "features.encrypt",
            {
                "chunk": chunk,
                "chunks": chunks,
                "first_row": chunk * rows,
                "rows": min(rows, state.rows - chunk * rows),
                "job": job_arguments(state),
            },
            (features.matrix,),
            sends_bulk=True,
        )
        for chunk in range(features.chunks_made, last)
    )
    return change(state, features=change(features, chunks_made=last)), effects


def encrypted(state: JobState, event: Computed) -> Outcome:
    """A chunk of the own features is encrypted and sealed: send it."""
    _, chunks = own_chunks(state)
    features = state.features
    queue, sends = send_in_order("features.encrypted", features.queue, chunk_of(event.task), chunks, event.blobs[0])
    state = change(state, features=change(features, queue=queue, chunks_computed=features.chunks_computed + 1))
    state, effects = _encrypt(state, 1)
    state, more = _iterate_when_ready(state)
    rows, _ = own_chunks(state)
    done = min(state.rows, state.features.chunks_computed * rows)
    return state, (*sends, *effects, progress(state, "encrypt_features", done=done, total=state.rows), *more)


def received(state: JobState, event: BulkReceived) -> Outcome:
    """A chunk of the partner's encrypted features."""
    _, chunks = partner_chunks(state)
    features = state.features
    expect_chunk(state, event, "features_sequence", due=features.received, chunks=chunks)
    features = change(features, received=features.received + 1, waiting=(*features.waiting, event.body))
    state = change(state, features=features)
    return _open_waiting(state) if state.phase is Phase.ENCRYPTING else (state, ())


def _open_waiting(state: JobState) -> Outcome:
    features = state.features
    rows, chunks = partner_chunks(state)
    first = features.received - len(features.waiting)
    effects = tuple(
        compute(
            f"features.open/{chunk}",
            "features.open",
            {
                "chunk": chunk,
                "chunks": chunks,
                "first_row": chunk * rows,
                "rows": min(rows, state.rows - chunk * rows),
                "job": job_arguments(state),
            },
            (body,),
        )
        for chunk, body in enumerate(features.waiting, start=first)
    )
    opening = features.opening
    for chunk, body in enumerate(features.waiting, start=first):
        opening = put(opening, chunk, body)
    return change(state, features=change(features, waiting=(), opening=opening)), effects


def opened(state: JobState, event: Computed) -> Outcome:
    """A chunk of the partner's features is checked and stored."""
    features, chunk = state.features, chunk_of(event.task)
    body = features.opening[chunk]
    assert body is not None
    features = change(
        features,
        encrypted=put(features.encrypted, chunk, event.blobs[0]),
        opening=put(features.opening, chunk, None),
    )
    state, effects = _iterate_when_ready(change(state, features=features))
    return state, (Consumed(body=body), *effects)


def _iterate_when_ready(state: JobState) -> Outcome:
    features = state.features
    _, own = own_chunks(state)
    _, theirs = partner_chunks(state)
    if features.chunks_computed < own or not whole(features.encrypted, theirs):
        return state, ()
    state = change(state, features=change(features, opening=()))
    more: tuple[AnyEffect, ...]
    state, more = iterating.start(state)
    return state, more
