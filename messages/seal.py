"""End-to-end encryption of message bodies: HPKE, RFC 9180, base mode.

Default suite: the hybrid KEM ML-KEM-768 + X25519, so that traffic recorded at a broker today stays closed to a
quantum computer later. What identifies the message is bound through `info`: a body moved to another job,
sender, recipient, kind or chunk does not open.
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from messages.identity import Identity, PublicIdentity

DEFAULT_SUITE: Final = "MLKEM768X25519-HKDF-SHA256-AES256GCM"
SUITES: Final[dict[str, Suite]] = {DEFAULT_SUITE: Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)}
OVERHEAD_BYTES: Final = 1136
"""What the default suite adds to a body: 1088 + 32 of encapsulated key, 16 of tag."""


class SealError(ValueError):
    """A body that does not open: another recipient, another message, another suite, or damaged."""


def seal_info(version: int, job: str, sender: str, recipient: str, kind: str, chunk: int, chunks: int) -> bytes:
    """The `info` that binds a body to its message: length-prefixed, so that no two messages share it."""
    words = ("warren seal", str(version), job, sender, recipient, kind, str(chunk), str(chunks))
    return b"".join(len(word.encode()).to_bytes(2, "big") + word.encode() for word in words)


def seal(plain: bytes, recipient: PublicIdentity, info: bytes, suite: str = DEFAULT_SUITE) -> bytes:
    """Encrypt to `recipient`: OVERHEAD_BYTES longer than `plain`. Raises SealError for an unknown suite."""
    if suite not in SUITES:
        raise SealError(f"suite {suite[:60]!r} is not known")
    return SUITES[suite].encrypt(plain, recipient.receive_key, info)


def unseal(sealed: bytes, identity: Identity, info: bytes, suite: str = DEFAULT_SUITE) -> bytes:
    """The plaintext. Raises SealError; the text says nothing of the content."""
    if suite not in SUITES:
        raise SealError(f"suite {suite[:60]!r} is not known")
    try:
        return SUITES[suite].decrypt(sealed, identity.receive_key, info)
    except (InvalidTag, ValueError):
        raise SealError("the body cannot be opened: not sealed for this party and message, or damaged") from None
