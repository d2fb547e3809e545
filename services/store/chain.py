"""The hash chain of a job at one party: pure functions over bytes.

`head_i = H(head_(i-1), digest of entry i)`. An entry is a received or sent header with its signature, or a
private event; events enter through a salted digest, so that a partner can be shown the whole chain without
being able to guess what was computed or decided.
"""

import hashlib
from typing import Final

import msgspec

SALT_BYTES: Final = 16

RECEIVED: Final = "received"
SENT: Final = "sent"
COMPUTED: Final = "computed"
DECIDED: Final = "decided"
DEADLINE: Final = "deadline"
FAULT: Final = "fault"

SECRET_MISSING: Final = "secret_missing"  # noqa: S105 - a reason code
PARTNER_FROZEN: Final = "partner_frozen"
OWN_WORD: Final = frozenset({SECRET_MISSING, PARTNER_FROZEN})
"""Codes of faults that no entry of the chain leads to: the engine found out by other means."""


def genesis(job: str, party: str) -> bytes:
    """The head of an empty chain."""
    return hashlib.sha256(b"warren chain\x00" + msgspec.msgpack.encode((job, party))).digest()


def event_digest(salt: bytes, event: bytes) -> bytes:
    """The salted digest of an event; 32 zero bytes for an entry without one."""
    if not event:
        return bytes(32)
    return hashlib.sha256(b"warren event\x00" + salt + event).digest()


def entry_digest(kind: str, header: bytes, signature: bytes, salted: bytes) -> bytes:
    """The digest of one entry; `salted` is the result of `event_digest`."""
    return hashlib.sha256(b"warren entry\x00" + msgspec.msgpack.encode((kind, header, signature, salted))).digest()


def next_head(head: bytes, digest: bytes) -> bytes:
    """The head after an entry."""
    return hashlib.sha256(b"warren head\x00" + head + digest).digest()
