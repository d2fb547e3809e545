"""What an adversary makes of captured messages, and the reason each of it has to be parked for."""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from messages import codec, unsequenced
from messages.codec import pack, unpack
from messages.envelope import Header, assemble, read_header, sign_header
from messages.identity import Identity, PublicIdentity
from messages.keys import routing_key
from messages.seal import seal, seal_info
from services.store.limits import ENVELOPE_BYTES_MAX
from tests.attacks.stage import Message

RECEIPT: Final = "receipt"
OTHER_SUITE: Final = "ROT13"
MALLORY: Final = Identity.generate("mallory")


@dataclass(frozen=True)
class Captured:
    """One envelope as an observer of the broker sees it."""

    key: str
    data: bytes

    @property
    def parts(self) -> dict[str, bytes]:
        parts: dict[str, bytes] = unpack(self.data, bytes_max=ENVELOPE_BYTES_MAX)
        return parts

    @property
    def header(self) -> Header:
        return read_header(self.parts["header"])

    def altered(self, **parts: bytes) -> bytes:
        """The same envelope with other parts."""
        whole = self.parts | parts
        return assemble(whole["header"], whole["signature"], whole["body"])


@dataclass(frozen=True)
class Material:
    """What the adversary has, and the two sets of keys that it has not (but some attacks are tried with them).

    Args:
        chunks: bulk of this job that went from `partner` to the victim.
        controls: numbered control messages of this job on the same way.
        receipts: receipts of this job on the same way.
        own: what the victim itself said in this job.
        foreign: what the partner said to the victim in a job that is over.

    """

    job: str
    victim: PublicIdentity
    partner: Identity
    chunks: list[Captured]
    controls: list[Captured]
    receipts: list[Captured]
    own: list[Captured]
    foreign: list[Captured]

    @property
    def samples(self) -> tuple[Captured, Captured, Captured]:
        """One of each sort of message."""
        return self.chunks[-1], self.controls[-1], self.receipts[-1]


Forged = list[tuple[str, Message]]
"""Reason code and message, or one of the two below: a repetition is the post's right and no offence."""

REPEATED: Final = "duplicate"
"""Not parked: dropped and counted among the job's duplicates, as is any second delivery."""

NO_TRACE: Final = ""
"""Not parked: says what is known already."""


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _respelled(header: Header, **changes: Any) -> bytes:
    """Canonical bytes of a header with other values, unsigned."""
    return pack(msgspec.to_builtins(msgspec.structs.replace(header, **changes), builtin_types=(bytes,)))


def _signed(captured: Captured, identity: Identity, body: bytes | None = None, **changes: Any) -> bytes:
    """A captured message with other values in its header, signed by `identity`."""
    body = captured.parts["body"] if body is None else body
    digest = hashlib.sha256(body).digest()
    signed = sign_header(msgspec.structs.replace(captured.header, body_sha256=digest, **changes), identity)
    return assemble(signed.header_bytes, signed.signature, body)


def flipped_in_header(material: Material) -> Forged:
    forged: Forged = []
    for item in material.samples:
        at = item.parts["header"].index(item.header.body_sha256)
        data = item.altered(header=_flipped(item.parts["header"], at))
        forged.append(("bad_signature", (item.key, data)))
    # The byte with the sequence: the same words, said to be the next ones.
    chunk = material.chunks[-1]
    following = _respelled(chunk.header, sequence=chunk.header.sequence + 1)
    forged.append(("bad_signature", (chunk.key, chunk.altered(header=following))))
    return forged


def flipped_in_body(material: Material) -> Forged:
    return [
        ("body_mismatch", (item.key, item.altered(body=_flipped(item.parts["body"], at))))
        for item in material.samples
        for at in (0, -1 % len(item.parts["body"]))
    ]


def flipped_in_signature(material: Material) -> Forged:
    return [
        ("bad_signature", (item.key, item.altered(signature=_flipped(item.parts["signature"], at))))
        for item in material.samples
        for at in (0, 40)
    ]


def truncated(material: Material) -> Forged:
    return [
        ("malformed", (item.key, item.data[:size]))
        for item in material.samples
        for size in (0, 1, len(item.data) // 2, len(item.data) - 1)
    ]


def swapped(material: Material) -> Forged:
    pairs = (
        (material.chunks[0], material.chunks[-1]),
        (material.chunks[-1], material.chunks[0]),
        (material.controls[0], material.controls[-1]),
        (material.receipts[0], material.receipts[-1]),
    )
    return [("body_mismatch", (one.key, one.altered(body=other.parts["body"]))) for one, other in pairs]


def replayed(material: Material) -> Forged:
    old = [material.receipts[0], *material.foreign]
    again = [material.controls[0], material.chunks[0], material.chunks[0], material.chunks[-1]]
    return [(NO_TRACE, (item.key, item.data)) for item in old] + [(REPEATED, (item.key, item.data)) for item in again]


def replayed_from_another_job(material: Material) -> Forged:
    return [("wrong_key", (item.key.replace(item.header.job, material.job), item.data)) for item in material.foreign]


def readdressed(material: Material) -> Forged:
    """What the victim said comes back to it, and what it said to others would come the same way."""
    forged: Forged = []
    for item in material.own:
        head = item.header
        forged.append(
            ("wrong_recipient", (routing_key(head.recipient, head.sender, head.kind, material.job), item.data))
        )
    return forged


def unknown_sender(material: Material) -> Forged:
    return [("unknown_sender", (item.key, _signed(item, MALLORY, sender=MALLORY.name))) for item in material.samples]


def _ahead(material: Material) -> bytes:
    """A sealed receipt for more than the victim ever said. Anybody can seal to a public key."""
    head = material.receipts[-1].header
    info = seal_info(head.version, head.job, head.sender, head.recipient, head.kind, 0, 1)
    return seal(codec.encode(unsequenced.Receipt(applied=10**6, credit=10**6)), material.victim, info)


def forged_receipt_ahead(material: Material) -> Forged:
    receipt, chunk, body = material.receipts[-1], material.chunks[-1], _ahead(material)
    unsigned = _respelled(receipt.header, body_sha256=hashlib.sha256(body).digest())
    return [
        ("bad_signature", (receipt.key, _signed(receipt, MALLORY, body))),
        ("bad_signature", (receipt.key, receipt.altered(header=unsigned, body=body))),
        ("body_mismatch", (receipt.key, receipt.altered(body=body))),
        # The other place that says what the partner has: the header of each message.
        ("bad_signature", (chunk.key, chunk.altered(header=_respelled(chunk.header, received=10**6)))),
    ]


def oversized(material: Material) -> Forged:
    chunk = material.chunks[-1]
    return [
        ("oversized", (chunk.key, chunk.data.ljust(ENVELOPE_BYTES_MAX + 1, b"\x00"))),
        ("oversized", (chunk.key, chunk.altered(body=secrets.token_bytes(ENVELOPE_BYTES_MAX)))),
        ("oversized", (material.receipts[-1].key, bytes(2 * ENVELOPE_BYTES_MAX))),
    ]


def other_version(material: Material) -> Forged:
    """Whoever signed it: the one who cannot read it cannot check it either."""
    return [
        ("unknown_version", (item.key, data))
        for item in material.samples
        for data in (
            _signed(item, material.partner, version=2),
            item.altered(header=_respelled(item.header, version=0)),
        )
    ]


def other_suite(material: Material) -> Forged:
    return [
        ("unknown_suite", (item.key, data))
        for item in material.samples
        for data in (
            _signed(item, material.partner, suite=OTHER_SUITE),
            item.altered(header=_respelled(item.header, suite="")),
        )
    ]


ATTACKS: Final[tuple[Callable[[Material], Forged], ...]] = (
    flipped_in_header,
    flipped_in_body,
    flipped_in_signature,
    truncated,
    swapped,
    replayed,
    replayed_from_another_job,
    readdressed,
    unknown_sender,
    forged_receipt_ahead,
    oversized,
    other_version,
    other_suite,
)


def signed_receipt_ahead(material: Material) -> Message:
    """What only the partner itself can make: a receipt for messages that the victim's journal does not know."""
    receipt = material.receipts[-1]
    return receipt.key, _signed(receipt, material.partner, _ahead(material))
