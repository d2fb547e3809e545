"""One valid message of every kind, the contract of a job, and envelopes around them: where fuzzing begins."""

import hashlib
from collections.abc import Iterator
from typing import Any, Final

from messages import codec, schemas, unsequenced
from messages.envelope import Header, assemble, sign_header
from messages.keys import routing_key
from messages.schemas import Message
from messages.seal import DEFAULT_SUITE, seal, seal_info
from protocol.contract import JobContract, encode_contract, job_id
from tests.fuzz.identities import ME, PARTNER, identity

_DIGEST: Final = bytes(range(32))


def contract(business: str = PARTNER, provider: str = ME, **fields: Any) -> bytes:
    """A contract that both may sign."""
    return encode_contract(
        JobContract(
            **{
                "protocol_version": 1,
                "logic_version": 1,
                "leakage_version": 1,
                "nonce": bytes(8),
                "business": business,
                "provider": provider,
                "business_key": identity(business).public.digest(),
                "provider_key": identity(provider).public.digest(),
                "business_dataset": "labels",
                "provider_dataset": "features",
                "data_digest": _DIGEST,
                "schema_digest": _DIGEST,
                "business_rows": 100,
                "business_columns": 4,
                "task": "logistic",
                "l2": 1e-4,
                "max_iterations": 3,
                "tolerance": 1e-4,
                "label_bound": 1.0,
                "psi_quota": 1000,
                "expires_at": 2**40,
                **fields,
            }
        )
    )


def sample_messages() -> Iterator[Message]:
    """Every message that there is."""
    yield schemas.JobPropose(contract=contract())
    yield schemas.JobAccept(contract_digest=_DIGEST, data_digest=_DIGEST, schema_digest=_DIGEST, rows=80, columns=3)
    yield schemas.PartsSeed(seed=_DIGEST)
    yield schemas.JobPending(contract_digest=_DIGEST)
    yield schemas.JobDecline(reason_code="dataset_unknown", reason="there is no such data set")
    yield schemas.JobCancel(reason="a mistake")
    yield schemas.JobDone(iterations=3, converged=True, agreement=_DIGEST, constant=0.25)
    yield schemas.JobDone(iterations=3, converged=True, agreement=_DIGEST, constant=0.0, constants=[0.25, -1.0, 3.5])
    yield schemas.InterceptPart(masked=_DIGEST)
    yield schemas.InterceptPart(masked=3 * _DIGEST)
    yield schemas.JobAgreed(columns=[3, 4])
    yield schemas.AlignCommon(places=bytes(range(8)))
    yield schemas.MaskKey(public=_DIGEST)
    yield schemas.StepMasked(iteration=1, row=[_DIGEST, bytes(32)], largest=0.125)
    yield schemas.JobFailed(reason_code="codes_wrong", reason="other features")
    opening = {"suite": "x25519-elligator2", "count": 80, "chunk_items": 64, "schema_digest": _DIGEST}
    yield schemas.AlignPropose(**opening, commitment=_DIGEST)  # type: ignore[arg-type]
    yield schemas.AlignAccept(**opening, commitment=_DIGEST)  # type: ignore[arg-type]
    yield schemas.AlignList(points=_DIGEST * 2)
    yield schemas.AlignEcho(tokens=_DIGEST)
    yield schemas.AlignResult(count=60, digest=_DIGEST, iterations_allowed=5)
    yield schemas.FeaturesCodes(codes=[1, 2, 3], modulus=_DIGEST, proof=_DIGEST, slot_bits=60, columns_per_ciphertext=8)
    yield schemas.FeaturesEncrypted(first_row=0, rows=2, ciphertexts=_DIGEST)
    yield schemas.ScoreRange(iteration=1, bound=4.0, spread=0.5)
    yield schemas.LinkTerms(iteration=1, first_row=0, rows=2, terms=2, bound=4.0, stretch=1.0, ciphertexts=_DIGEST)
    yield schemas.ResidualShare(iteration=1, first_row=0, rows=2, ciphertexts=_DIGEST)
    yield schemas.CrossTerm(iteration=1, ciphertexts=_DIGEST)
    yield schemas.StepProducts(iteration=1, products=[0.5, -1.5], largest=0.125)
    yield schemas.StopDecision(iteration=6, best=4, stop=True)
    yield schemas.CurvatureBlock(gram=[1.5, 0.25, 2.0], gradient=[1e-4, -1e-5], noise=1e-3, unexplained=0.5)
    yield schemas.ModelPart(names=["age"], coefficients=[0.5], centres=[40.0], steps=[0.001], preparation=b"")
    yield schemas.ScorePartial(part="all", iteration=0, first_row=0, rows=4, values=_DIGEST)
    yield schemas.ScoreReady(rows=60)
    yield unsequenced.ScoreAsk(question=bytes(range(16)), row=3)
    yield unsequenced.ScoreAnswer(question=bytes(range(16)), value=bytes(8), reason_code="ok")
    yield unsequenced.ScoreAnswer(question=bytes(range(16)), value=bytes(24), reason_code="ok")
    yield unsequenced.Receipt(applied=1, credit=17)
    yield unsequenced.ReceiptRequest(sent=1)
    yield unsequenced.ReceiptHeld(receipted=1)
    yield unsequenced.JobFrozen(reason_code="receipt_ahead")
    yield unsequenced.JobResting(reason_code="paused")
    yield unsequenced.PeerProbe(contract=contract())
    yield unsequenced.PeerProbe(contract=b"", clock=True)
    for clock in (0, 1_700_000_000):
        yield _answer(clock)


def _answer(clock: int) -> unsequenced.PeerAnswer:
    return unsequenced.PeerAnswer(
        software_version="1.0",
        protocol_version=1,
        logic_version=1,
        backend="gmpy2",
        acceptable=True,
        reason_code="none",
        reason="",
        rows=80,
        columns=3,
        free_bytes=2**30,
        clock=clock,
    )


def job_of(body: bytes) -> str:
    """The identifier of the job of a contract."""
    return job_id(body)


def envelope(
    message: Message | bytes,
    *,
    kind: str = "",
    job: str = "job-1",
    sender: str = PARTNER,
    signer: str = "",
    recipient: str = ME,
    suite: str = DEFAULT_SUITE,
    **fields: Any,
) -> bytes:
    """An envelope of `sender`; bytes are a body that is sealed already, or is not."""
    kind = kind or (codec.kind_of(message) if isinstance(message, Message) else "job.cancel")
    if isinstance(message, Message):
        info = seal_info(1, job, sender, recipient, kind, fields.get("chunk", 0), fields.get("chunks", 1))
        body = seal(codec.encode(message), identity(recipient).public, info, suite)
    else:
        body = message
    header = {
        "version": 1,
        "job": job,
        "sender": sender,
        "recipient": recipient,
        "kind": kind,
        "sequence": 0 if kind in unsequenced.UNSEQUENCED else 1,
        "chunk": 0,
        "chunks": 1,
        "received": 0,
        "previous": bytes(32),
        "suite": suite,
        "body_sha256": hashlib.sha256(body).digest(),
        **fields,
    }
    signed = sign_header(Header(**header), identity(signer or sender))
    return assemble(signed.header_bytes, signed.signature, body)


def delivery(data: bytes, kind: str, job: str = "job-1", sender: str = PARTNER, recipient: str = ME) -> bytes:
    """A routing key as AMQP writes it (one byte of length), and the envelope."""
    key = routing_key(sender, recipient, kind, job).encode()
    return bytes([len(key)]) + key + data
